"""`python3 -m meshswarm` is the command line."""

import sys

from meshswarm.cli.main import main

sys.exit(main())
