"""A data directory: whose it is, and what is said where it cannot be taken."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshswarm.datadir import DataDir
from meshswarm.errors import Unavailable
from meshswarm.ids import ClusterId, NodeId


@contextmanager
def no_room() -> Iterator[None]:
    """Nobody in this process can write a byte to a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_without_room_is_told_in_words_and_taken_later(tmp_path: Path) -> None:
    path, cluster, node = tmp_path / "data", ClusterId("c"), NodeId("n")
    with DataDir.claim(path, cluster, node) as first:
        before = first.incarnation
    with no_room(), pytest.raises(Unavailable, match="cannot be written: File too large") as told:
        DataDir.claim(path, cluster, node)
    assert str(path) == told.value.where
    with DataDir.claim(path, cluster, node) as later:
        assert later.incarnation > before
