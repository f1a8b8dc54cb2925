"""Inputs of the fuzz targets that are read to the end."""

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from attrs import evolve

from meshswarm import codec
from meshswarm.agent.memory import Memory
from meshswarm.cluster import wire
from meshswarm.cluster.journal_records import (
    Head,
    Identity,
    head_bytes,
    read_segment,
    record_bytes,
    segment_bytes,
)
from meshswarm.cluster.snapshots import SnapshotName
from meshswarm.ids import ClusterId, Index, NodeId, Term
from meshswarm.mesh import keys
from meshswarm.mesh.frames import Message, Type, encode
from meshswarm.mesh.limits import MeshLimits
from meshswarm.model.node import NodeDescription, NodeRole
from meshswarm.raft.messages import AppendEntries, InstallSnapshot, RequestVote
from meshswarm.raft.types import ConfState, Entry, EntryKind, Snapshot, SnapshotMeta
from meshswarm.store.commands import (
    Batch,
    Group,
    PutConfig,
    PutService,
    RegisterNode,
    encode_command,
)
from meshswarm.store.feed import delta_of
from meshswarm.store.log_entry import LogEntry
from meshswarm.store.slices import encode_view
from meshswarm.store.view import Table, View
from tests.cluster import journal_world
from tests.support.builders import commit, service_spec

LIMITS = MeshLimits()
SNAPSHOT = SnapshotName(Index(7), Term(1))


def seeds(target: str) -> list[bytes]:
    """Inputs of a target that are read to the end."""
    return _SEEDS[target]()


def joined(*parts: bytes) -> bytes:
    """Several byte strings as one input: two bytes of length before each."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def parts(data: bytes) -> Iterator[bytes]:
    """The byte strings in one input."""
    while data:
        length = int.from_bytes(data[:2], "big")
        yield data[2 : 2 + length]
        data = data[2 + length :]


def _frame_seeds() -> list[bytes]:
    call = Message(Type.CALL, 3, 7, 1, "propose", [b"x", None, {"a": 1}], (b"payload", b""))
    name = b"abcdefghijklm.control.4.nonce"
    return [
        joined(*encode(*call, LIMITS)),
        joined(*encode(*Message(Type.PING, 1, 1), LIMITS)),
        name,
    ]


def _raft_seeds() -> list[bytes]:
    a, b, term = NodeId("a"), NodeId("b"), Term(3)
    meta = SnapshotMeta(Index(9), Term(2), ConfState((a, b), (), (NodeId("z"),)))
    sent = (
        RequestVote(from_=a, to=b, term=term, last_index=Index(9), last_term=Term(2)),
        AppendEntries(
            from_=a,
            to=b,
            term=term,
            prev_index=Index(7),
            prev_term=Term(2),
            entries=(Entry(Index(8), Term(2), b"x"), Entry(Index(9), term, b"", EntryKind.NOOP)),
            commit=Index(6),
        ),
        InstallSnapshot(from_=a, to=b, term=term, snapshot=Snapshot(meta, b"state")),
    )
    packed = [wire.pack(message) for message in sent]
    return [
        joined(body if isinstance(body, bytes) else codec.dumps(body), *payloads)
        for body, payloads in packed
    ]


@cache
def populated() -> View:
    """A view with a node and a service."""
    view = commit(View(), _registration("n1")).view
    return commit(view, PutService(spec=service_spec("web", replicas=2))).view


def _command_seeds() -> list[bytes]:
    put = encode_command(PutService(spec=service_spec("db", replicas=1)))
    entry = LogEntry(at_ms=9, by="cli", request=None, command=put)
    configs = tuple(PutConfig(name=name, data=b"x", labels={name: "y"}) for name in "abc")
    together = encode_command(Group(commands=(Batch(commands=configs), *configs)))
    return [put, encode_command(_registration("n2")), entry.encoded(), together]


def _registration(name: str) -> RegisterNode:
    return RegisterNode(
        node_id=NodeId(f"id-{name}"),
        name=name,
        role=NodeRole.WORKER,
        address="",
        incarnation=1,
        labels={"zone": "a"},
        description=NodeDescription(),
    )


def _view_seeds() -> list[bytes]:
    return [encode_view(View()), encode_view(populated())]


def _change_seeds() -> list[bytes]:
    view = populated()
    written = [(Table.NODES, "id-n1"), *((Table.SERVICES, key) for key in view.services)]
    delta = delta_of(view, written, frozenset(Table))
    gone = tuple((table.value, "x/1") for table in Table)
    return [codec.encode(delta), codec.encode(evolve(delta, deleted=gone))]


def _chunk_seeds() -> list[bytes]:
    meta = SnapshotMeta(Index(9), Term(2), ConfState((NodeId("a"), NodeId("b"))))
    offered = InstallSnapshot(
        from_=NodeId("a"), to=NodeId("b"), term=Term(3), snapshot=Snapshot(meta, b"digest")
    )
    chunk = wire.SnapshotChunk(meta.index, meta.term, b"digest", 700, b"data")
    answer = wire.SnapshotAnswer(wire.SnapshotState.WANTED, 700)
    packed = (wire.pack_offer(offered, 5_000), wire.pack_chunk(chunk), (answer.packed(), ()))
    return [joined(codec.dumps(body), *payloads) for body, payloads in packed]


def _snapshot_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as root:
        journal_world.stored(Path(root), journal_world.snapshot(7))
        return [(Path(root) / str(SNAPSHOT)).read_bytes()]


def _journal_seeds() -> list[bytes]:
    one_byte = [bytes((file, 0, 0x40, 0x00, 1, 0xFF)) for file in range(6)]
    cut, gone = bytes((1, 1, 0x80, 0x00, 0, 0)), bytes((2, 3, 0, 0, 0, 0))
    return [b"", *one_byte, cut, gone, cut + one_byte[0]]


def _record_seeds() -> list[bytes]:
    identity = Identity(journal_world.CLUSTER, journal_world.NODE, journal_world.CONF)
    segment = read_segment(segment_bytes(1, identity, b"saltsalt"), "log-1")
    bodies = []
    for number in range(4):
        hard = journal_world.hard_state(2, number)
        head = Head(counter=number, hard_state=hard, last_index=Index(2 * number + 2))
        new = journal_world.entries(2 * number + 1, 2 * number + 2)
        bodies.append(record_bytes(segment, head_bytes(head), new)[1])
    return [joined(*bodies), joined(*bodies[::2]), joined(bodies[0])]


def _agent_seeds() -> list[bytes]:
    memory = Memory(cluster_id=ClusterId("c"), node_id=NodeId("n"))
    return [codec.encode(memory), b'{"cgroups": ["/sys/fs/cgroup/x/cgroup.procs"]}', b"boot x\n"]


def _own_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as root:
        key_file = Path(root) / "key"
        keys.save(keys.generate(), key_file)
        settings = Path(__file__).parents[2] / "config" / "node.toml"
        return [key_file.read_bytes(), settings.read_bytes(), b"[raft]\nheartbeat_ms = 1\n"]


def _compose_seeds() -> list[bytes]:
    demo = Path(__file__).parents[2] / "config" / "demo" / "compose.yml"
    return [demo.read_bytes(), b"services: {a: {image: 'x:${A:-1}', ports: ['80:80/udp']}}\n"]


_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "frames": _frame_seeds,
    "raft-messages": _raft_seeds,
    "commands": _command_seeds,
    "views": _view_seeds,
    "watch-changes": _change_seeds,
    "snapshot-chunks": _chunk_seeds,
    "snapshot-files": _snapshot_seeds,
    "journals": _journal_seeds,
    "journal-records": _record_seeds,
    "agent-files": _agent_seeds,
    "own-files": _own_seeds,
    "compose-files": _compose_seeds,
}
