"""What tests of the agent over a fake engine share."""

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_engine import FakeEngine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    """A fake engine at its socket. The SDK leaves sockets that it cannot connect, or lets go while
    it reads, to the collector, which warns: here, and not in whatever test comes next."""
    with FakeEngine(tmp_path / "engine.sock") as engine:
        yield engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
