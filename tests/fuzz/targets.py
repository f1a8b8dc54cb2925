"""What reads bytes from disk or wire, as functions of bytes that must not fail.

Each takes anything, feeds it to one reader, and lets that reader's own typed error pass; whatever
else comes out is a finding. The docstring's first line is the invariant. `seeds.py` has inputs to
be mutated: hypothesis does so in the normal suite, atheris for as long as it is let
(`python3 tools/run.py fuzz TARGET --seconds N`).
"""

import asyncio
import shutil
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from unittest.mock import patch

from meshswarm import codec
from meshswarm.agent.memory import MemoryFile
from meshswarm.agent.runtimes.task_dir import TaskDir
from meshswarm.cluster import journal_records as records
from meshswarm.cluster import journal_segments, snapshots, wire
from meshswarm.cluster.journal import Recovered
from meshswarm.cluster.journal_records import Identity
from meshswarm.cluster.journal_scan import examine
from meshswarm.compose.load import load
from meshswarm.errors import Conflict, Corrupt, Invalid, MeshswarmError
from meshswarm.ids import ClusterId, Index, NodeId, TaskId, Term
from meshswarm.mesh import keys
from meshswarm.mesh.frames import BadFrame, Type, decode, encode, routing_id_of
from meshswarm.mesh.limits import MeshLimits
from meshswarm.raft.messages import AppendEntries
from meshswarm.raft.types import Snapshot
from meshswarm.settings import load_client_context, load_settings
from meshswarm.store.apply import apply
from meshswarm.store.feed import Delta, follow
from meshswarm.store.log_entry import LogEntry
from meshswarm.store.slices import decode_view, encode_view
from tests.cluster import journal_world
from tests.fuzz.seeds import SNAPSHOT, parts, populated

LIMITS = MeshLimits()
NUMBER_MAX = (1 << 63) - 1


def frames(data: bytes) -> None:
    """Frames are a message that encodes to frames again, or a `BadFrame`."""
    with suppress(BadFrame):
        sent = encode(*decode(list(parts(data)), LIMITS), LIMITS)
        assert sent == encode(*decode(sent, LIMITS), LIMITS)
    with suppress(BadFrame):
        routing_id_of(data)


def raft_messages(data: bytes) -> None:
    """A body with payloads is a Raft message whose numbers are in range, or `Undecodable`."""
    head, *payloads = [*parts(data)] or [b""]
    try:
        message = wire.unpack(codec.loads(head), tuple(payloads))
    except codec.Undecodable:
        return
    body, again = wire.pack(message)
    told = decode(encode(Type.NOTIFY, 1, 1, 0, wire.KIND, body, again, LIMITS), LIMITS)
    assert message == wire.unpack(told.body, told.payloads)
    numbers = [getattr(message, name) for name in _NUMBERS if hasattr(message, name)]
    if isinstance(message, AppendEntries):
        terms = [entry.term for entry in message.entries]
        assert sorted(terms) == terms
        numbers += terms
    assert all(0 <= number <= NUMBER_MAX for number in numbers), message


_NUMBERS = ("term", "commit", "prev_index", "prev_term", "index", "hint_index", "last_index")


def commands(data: bytes) -> None:
    """Any log entry is applied or refused, never an exception, and leaves a view that is sound."""
    for entry in (data, LogEntry(at_ms=5, by="n", request=None, command=data).encoded()):
        applied = apply(populated(), index=Index(3), term=Term(1), data=entry)
        assert applied.view.index == 3
        encoded = encode_view(applied.view)
        assert encoded == encode_view(decode_view(encoded))


def views(data: bytes) -> None:
    """The bytes of a view are a view that encodes to bytes again, or `Undecodable`."""
    with suppress(codec.Undecodable):
        encode_view(decode_view(data))


def watch_changes(data: bytes) -> None:
    """What a manager sends to watchers is followed, or `Undecodable`."""
    with suppress(codec.Undecodable):
        follow(populated(), codec.decode(data, Delta))


def snapshot_chunks(data: bytes) -> None:
    """A body with payloads is an offer, a chunk or an answer of a snapshot, or `Undecodable`."""
    head, *payloads = [*parts(data)] or [b""]
    with suppress(codec.Undecodable):
        body = codec.loads(head)
        with suppress(codec.Undecodable):
            message, size = wire.unpack_offer(body, tuple(payloads))
            assert (message, size) == wire.unpack_offer(*wire.pack_offer(message, size))
        with suppress(codec.Undecodable):
            chunk = wire.unpack_chunk(body, tuple(payloads))
            assert chunk == wire.unpack_chunk(*wire.pack_chunk(chunk))
        answer = wire.SnapshotAnswer.unpacked(body)
        assert answer == wire.SnapshotAnswer.unpacked(answer.packed())


def snapshot_files(data: bytes) -> None:
    """A snapshot's file is that snapshot, or `Corrupt`."""
    with tempfile.TemporaryDirectory(dir=_fast()) as root:
        path = Path(root) / str(SNAPSHOT)
        path.write_bytes(data)
        with suppress(Corrupt):
            meta = snapshots.check_snapshot(path, None, SNAPSHOT).meta
            found = Snapshot(meta, b"".join(snapshots.read_slices(path, SNAPSHOT)))
            assert found == journal_world.snapshot(7)


def journals(data: bytes) -> None:
    """A directory with damaged files is what was written, or says that it is damaged."""
    with tempfile.TemporaryDirectory(dir=_fast()) as root:
        directory = Path(root) / "raft"
        directory.mkdir()
        for name, content in _journal().items():
            (directory / name).write_bytes(content)
        for at in range(0, len(data), EDIT_BYTES):
            _damage(directory, data[at : at + EDIT_BYTES])
        if not _files(directory):
            return  # an empty disk: nobody can know what was there
        for _ in range(2):  # what a first start made of it, a second one must understand
            try:
                recovered = asyncio.run(_reopened(directory))
            except (Corrupt, Conflict):
                return
            if recovered.damage is None:
                state = journal_world.state_after(WRITES)
                assert recovered.hard_state == state.hard_state
                assert journal_world.holds(recovered, state)
            else:
                assert recovered.entries == ()


def journal_records(data: bytes) -> None:
    """Whatever the records of a log hold whose checksums fit, it is a log or has faults."""
    with tempfile.TemporaryDirectory(dir=_fast()) as root:
        pieces = [records.segment_bytes(1, IDENTITY, b"saltsalt")]
        segment = records.read_segment(pieces[0], "log-1")
        for part in parts(data):
            body = (len(part) + SEAL_BYTES).to_bytes(4, "big") + part[4:]
            pieces += [segment.salt, zlib.crc32(body, segment.seed).to_bytes(4, "big"), body]
        (Path(root) / "log-1").write_bytes(b"".join(pieces))
        contents = examine(Path(root))
        assert contents is not None
        if not contents.faults:
            assert contents.head is not None
            expected = range(contents.head.first_index, contents.head.last_index + 1)
            assert [*expected] == [entry.index for entry in contents.entries]


def agent_files(data: bytes) -> None:
    """What an agent remembers is read or forgotten, never an error."""
    with tempfile.TemporaryDirectory(dir=_fast()) as root:
        files = TaskDir(Path(root), TaskId("t"))
        files.path.mkdir()
        memory = Path(root) / "state.cbor"
        for path in (memory, files.path / "record.cbor", files.launch_file, files.life_file):
            path.write_bytes(data)
        MemoryFile(memory, ClusterId("c"), NodeId("n")).load()
        files.record()
        files.cgroups()
        files.life()


def own_files(data: bytes) -> None:
    """A settings, context or key file is read, or an error of ours says what is wrong with it."""
    with tempfile.TemporaryDirectory(dir=_fast()) as root:
        path = Path(root) / "file"
        path.touch(0o600)
        path.write_bytes(data)
        for read in (_settings, load_client_context, keys.load):
            with suppress(MeshswarmError):
                read(path)


def _settings(path: Path) -> None:
    load_settings(path, {})


def compose_files(data: bytes) -> None:
    """A Compose text is a stack, or `Invalid`."""
    with suppress(Invalid):
        load(data, file="c.yml", name="p", directory="/p", environment={"A": "1"}, read=_no_file)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__.replace("_", "-"): target
    for target in (
        frames,
        raft_messages,
        commands,
        views,
        watch_changes,
        snapshot_chunks,
        snapshot_files,
        journals,
        journal_records,
        agent_files,
        own_files,
        compose_files,
    )
}

WRITES = 12
IDENTITY = Identity(journal_world.CLUSTER, journal_world.NODE, journal_world.CONF)
SEAL_BYTES = 12
"""Before the body of a record: salt and CRC."""


# --- journals -------------------------------------------------------------------------------------


def _fast() -> Path | None:
    """A directory in memory where there is one: syncs cost nothing there."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else None


@cache
def _journal() -> dict[str, bytes]:
    """The files of a journal as a kill leaves it; kept in memory, for atheris cleans up nothing."""
    with (
        tempfile.TemporaryDirectory(dir=_fast()) as root,
        patch.object(journal_segments, "SEGMENT_BYTES", 8_192),
    ):
        crashed = Path(root) / "crashed"
        asyncio.run(_lived(Path(root) / "raft", crashed))
        return {path.name: path.read_bytes() for path in crashed.iterdir()}


async def _lived(directory: Path, crashed: Path) -> None:
    journal, _ = journal_world.open_journal(directory, reserved_bytes=1)
    state = journal_world.State()
    for number in range(1, WRITES + 1):
        write, state = journal_world.write_number(number, state)
        await journal_world.written(journal, write)
    commit_index = state.hard_state.commit
    term = state.entries[commit_index - 1].term
    await journal_world.save(journal, journal_world.snapshot(commit_index, term), keep=5)
    shutil.copytree(directory, crashed)
    await journal.close()


async def _reopened(directory: Path) -> Recovered:
    journal, recovered = journal_world.open_journal(directory)
    await journal.close()
    return recovered


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_file() and path.name != "lock")


EDIT_BYTES = 6


def _damage(directory: Path, edit: bytes) -> None:
    """Damage one file as these bytes say: which, how, from where on, with how many of what."""
    which, how, *where, count, value = edit.ljust(EDIT_BYTES, b"\0")
    files = _files(directory)
    if not files:
        return
    path = files[which % len(files)]
    whole, put = path.read_bytes(), bytes((value,)) * count
    start = int.from_bytes(bytes(where), "big") * len(whole) >> 16
    match how % 4:
        case 0:
            path.write_bytes(whole[:start] + put + whole[start + count :])
        case 1:
            path.write_bytes(whole[:start] + put)
        case 2:
            path.write_bytes(whole[:start] + put + whole[start:])
        case _:
            path.unlink()


def _no_file(_: str) -> None:
    """No `.env`, no `env_file`."""
