"""The fuzz targets in the normal suite: a few inputs each, and what they may cost in memory."""

import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshswarm.agent.runtimes.task_dir import TaskDir
from meshswarm.ids import TaskId
from tests.fuzz.seeds import joined, seeds
from tests.fuzz.targets import TARGETS

SLOW = ("journals", "journal-records", "snapshot-files", "agent-files", "own-files")
"""These touch files."""

BYTES_PER_BYTE = 600
"""What reading one byte may cost at most: CBOR packs an empty map, 100 bytes here, into one."""


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_says_its_invariant_and_reads_its_seeds(name: str) -> None:
    assert TARGETS[name].__doc__
    assert seeds(name)
    for seed in seeds(name):
        TARGETS[name](seed)


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in SLOW])
@given(data=st.binary(max_size=300) | st.lists(st.binary(max_size=60)).map(lambda p: joined(*p)))
def test_any_bytes_give_a_value_or_the_targets_own_error(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in SLOW])
@given(pick=st.integers(0), seed=st.integers(0, 1 << 32))
def test_damaged_values_give_a_value_or_the_targets_own_error(
    name: str, pick: int, seed: int
) -> None:
    TARGETS[name](mutated(seeds(name)[pick % len(seeds(name))], random.Random(seed)))


@pytest.mark.parametrize("name", SLOW)
@settings(max_examples=15)
@given(data=st.lists(st.binary(max_size=60), max_size=3), seed=st.integers(0, 1 << 32))
def test_damaged_files_are_noticed(name: str, data: list[bytes], seed: int) -> None:
    TARGETS[name](mutated(seeds(name)[-1], random.Random(seed)))
    TARGETS[name](joined(*data))


@pytest.mark.parametrize(
    "launch", [b"[]", b"{}", b'"x"', b'{"cgroups": 3}', b'{"cgroups": [3, null]}', b"[" * 200_000]
)
def test_a_damaged_launch_file_names_no_cgroup(launch: bytes, tmp_path: Path) -> None:
    """What atheris would need long to find: JSON of another shape."""
    files = TaskDir(tmp_path, TaskId("t"))
    files.path.mkdir()
    files.launch_file.write_bytes(launch)
    assert [] == files.cgroups()


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, cut out, repeated or put in."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(out))
        end = min(len(out), at + chance.randint(1, 8))
        match chance.randrange(4):
            case 0:
                out[at:end] = chance.randbytes(end - at)
            case 1:
                del out[at:end]
            case 2:
                out[at:at] = out[at:end]
            case _:
                out[at:at] = chance.randbytes(chance.randint(1, 4))
    return bytes(out)


GREEDY = {
    "a gigabyte of bytes": b"\x5a\x40\x00\x00\x00",
    "a huge array": b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff",
    "a huge map": b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
    "a huge text": b"\x7b\x00\x00\x00\xff\xff\xff\xff\xff",
    "empty maps": b"\x99\x27\x10" + b"\xa0" * 10_000,
    "nested arrays": b"\x81" * 10_000,
    "a huge number": b"\xc2\x59\xff\x00" + b"\xff" * 0xFF00,
    "nested text": b"a = " + b"[" * 10_000,
    "a huge slice": b"\xff\xff\xff\xff\xff\xff\xff\xff" * 2,
}


@pytest.mark.parametrize("what", GREEDY)
@pytest.mark.parametrize("name", [name for name in TARGETS if name != "journals"])
def test_what_asks_for_much_memory_gets_little(name: str, what: str) -> None:
    TARGETS[name](seeds(name)[0])  # what is made once is not counted
    for data in (GREEDY[what], joined(GREEDY[what])):
        tracemalloc.start()
        try:
            TARGETS[name](data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 300_000 + BYTES_PER_BYTE * len(data)
