"""The hosts of the tests marked `chaos` or `engines`, or the reason why there are none."""

import os

import pytest

from tools.rig.engine import engine_obstacle
from tools.rig.rig import obstacle


def require(*, engines: bool = False) -> None:
    """Return if hosts can be made here; else skip the test, or fail it in CI."""
    problem = engine_obstacle() if engines else obstacle()
    if problem is None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{problem} (tests of real failures may not be skipped in CI)", pytrace=False)
    pytest.skip(f"no hosts to break: {problem}")
