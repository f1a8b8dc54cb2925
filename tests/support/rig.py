"""The hosts of the tests marked `chaos`, or the reason why there are none."""

import os

import pytest

from tools.rig.rig import obstacle


def require() -> None:
    """Return if hosts can be made here; else skip the test, or fail it in CI."""
    problem = obstacle()
    if problem is None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{problem} (tests of real failures may not be skipped in CI)", pytrace=False)
    pytest.skip(f"no hosts to break: {problem}")
