"""A node whose event loop stands still on demand, with its sockets and threads alive.

Run as `python -m tests.support.wedging node start ...`, it is `meshswarm node start ...`; at
SIGUSR1 its loop does nothing for as long as the file WEDGE (environment) exists.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from meshswarm import node
from meshswarm.cli.main import main
from meshswarm.datadir import DataDir
from meshswarm.mesh.keys import KeyPair
from meshswarm.settings import Settings


def _stand_still() -> None:
    wedge = Path(os.environ["WEDGE"])
    while wedge.exists():
        time.sleep(0.01)


_serve = node._serve


async def _serve_wedged(settings: Settings, keys: KeyPair, data_dir: DataDir) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _stand_still)
    await _serve(settings, keys, data_dir)


if __name__ == "__main__":
    node._serve = _serve_wedged
    sys.exit(main())
