"""Scenario S59 at the receiver: whatever becomes of the chunks, the old state or the whole new one.

(Research page, section 3.5: a chunk lost, duplicated, reordered or from another snapshot id.)
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from meshswarm.cluster.snapshot_receiving import Receiving
from meshswarm.cluster.snapshots import Stored, write_snapshot
from meshswarm.cluster.wire import SnapshotAnswer, SnapshotChunk, SnapshotState
from meshswarm.errors import Conflict, Unavailable
from meshswarm.ids import ClusterId, Index, NodeId, Term
from meshswarm.raft.config import RaftConfig
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import InstallSnapshot
from meshswarm.raft.types import ConfState, HardState, Snapshot, SnapshotMeta
from meshswarm.store.slices import view_slices
from meshswarm.store.view import View
from tests.support.builders import node, service, view

A, B = NodeId("a"), NodeId("b")
CONF = ConfState((A, B, NodeId("c")))
CLUSTER = ClusterId("cluster")
CHUNK = 700
WANTED, TAKEN = SnapshotState.WANTED, SnapshotState.TAKEN


def state(index: int, services: int = 40) -> View:
    """A state that takes several chunks."""
    rng = random.Random(index)
    rows = [
        service(f"s{number}", labels={"x": rng.randbytes(64).hex()}) for number in range(services)
    ]
    return evolve(view([node("n1")], rows, []), index=Index(index), term=Term(1))


class Source:
    """A leader's snapshot file, to be cut into chunks."""

    def __init__(self, directory: Path, index: int, owner: ClusterId = CLUSTER) -> None:
        directory.mkdir(exist_ok=True)
        self.view = state(index)
        meta = SnapshotMeta(Index(index), Term(1), CONF)
        self.stored = write_snapshot(directory, owner, meta, view_slices(self.view))
        self.data = (directory / str(self.stored.name)).read_bytes()

    def message(self, term: int = 1) -> InstallSnapshot:
        snapshot = Snapshot(self.stored.meta, self.stored.digest)
        return InstallSnapshot(from_=B, to=A, term=Term(term), snapshot=snapshot)

    def chunk(self, offset: int, size: int = CHUNK) -> SnapshotChunk:
        meta, data = self.stored.meta, self.data[offset : offset + size]
        return SnapshotChunk(meta.index, meta.term, self.stored.digest, offset, data)

    def chunks(self) -> list[SnapshotChunk]:
        return [self.chunk(offset) for offset in range(0, len(self.data), CHUNK)]


class Follower:
    """A core that lags behind, and the receiving side before it."""

    def __init__(self, directory: Path, tasks: asyncio.TaskGroup, *, room: bool = True) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.tasks = tasks
        self.installed: list[View] = []
        self.core = RaftCore(
            RaftConfig(node_id=A),
            random.Random(1),
            hard_state=HardState(),
            conf=CONF,
            snapshot=None,
            entries=(),
            applied=Index(0),
        )
        self.receiving = Receiving(
            self.core, directory, CLUSTER, install=self._install, has_room=lambda _: room
        )

    def _install(self, message: InstallSnapshot, stored: Stored | None, state: View | None) -> None:
        self.core.step(message)
        ready = self.core.ready()
        assert (ready.snapshot is None) is (state is None)
        if ready.snapshot is not None and stored is not None and state is not None:
            assert ready.snapshot == Snapshot(stored.meta, stored.digest)
            assert (self.directory / stored.part).exists()
            self.installed.append(state)
            self.core.applied(ready.snapshot.meta.index)

    async def offer(self, source: Source, term: int = 1) -> SnapshotAnswer:
        return await self.receiving.offer(source.message(term), source.stored.size, self.tasks)

    async def take(self, chunk: SnapshotChunk) -> SnapshotAnswer:
        answer = await self.receiving.take(chunk, self.tasks)
        while answer.state is SnapshotState.CHECKING:
            answer = await self.receiving.take(evolve(chunk, data=b""), self.tasks)
        return answer

    async def take_from(self, source: Source, offset: int) -> SnapshotAnswer:
        """Send everything from `offset` on."""
        answer = SnapshotAnswer(WANTED, offset)
        while answer.state is WANTED and offset < len(source.data):
            answer = await self.take(source.chunk(offset))
            offset += CHUNK
        return answer


@asynccontextmanager
async def following(directory: Path, *, room: bool = True) -> AsyncIterator[Follower]:
    async with asyncio.TaskGroup() as tasks:
        follower = Follower(directory / "follower", tasks, room=room)
        try:
            yield follower
        finally:
            follower.receiving.close()


async def test_s59_a_whole_snapshot_is_installed_once(tmp_path: Path) -> None:
    source = Source(tmp_path / "leader", 9)
    async with following(tmp_path) as follower:
        assert await follower.offer(source) == SnapshotAnswer(WANTED, 0)
        answer = await follower.take_from(source, 0)
        assert answer == SnapshotAnswer(TAKEN, len(source.data))
        assert await follower.offer(source) == answer
        assert follower.installed == [source.view]
        assert follower.core.status().commit == 9


async def test_s59_a_lost_chunk_is_asked_for_again(tmp_path: Path) -> None:
    source = Source(tmp_path / "leader", 9)
    async with following(tmp_path) as follower:
        await follower.offer(source)
        await follower.take(source.chunk(0))
        # The second is lost: those after it change nothing, and say what is wanted.
        for offset in (2 * CHUNK, 3 * CHUNK):
            assert await follower.take(source.chunk(offset)) == SnapshotAnswer(WANTED, CHUNK)
        assert (await follower.take_from(source, CHUNK)).state is TAKEN
        assert follower.installed == [source.view]


async def test_s59_duplicated_chunks_change_nothing(tmp_path: Path) -> None:
    source = Source(tmp_path / "leader", 9)
    async with following(tmp_path) as follower:
        await follower.offer(source)
        for number, chunk in enumerate(source.chunks()[:-1]):
            for _ in range(2):
                answer = await follower.take(chunk)
                assert answer == SnapshotAnswer(WANTED, (number + 1) * CHUNK)
        assert (await follower.take(source.chunks()[-1])).state is TAKEN
        assert follower.installed == [source.view]


@given(order=st.data())
def test_s59_chunks_in_any_order_make_the_whole_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, order: st.DataObject
) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    source = Source(tmp_path / "leader", 9)
    sent = order.draw(st.lists(st.sampled_from(source.chunks()), max_size=30))

    async def run() -> None:
        async with following(tmp_path) as follower:
            answer = await follower.offer(source)
            for chunk in sent:
                if answer.state is WANTED:
                    answer = await follower.take(chunk)
                    assert answer.offset % CHUNK == 0 or answer.state is TAKEN
            if answer.state is WANTED:
                assert follower.installed == []
                answer = await follower.take_from(source, answer.offset)
            assert answer.state is TAKEN
            assert follower.installed == [source.view]

    asyncio.run(run())


async def test_s59_chunks_of_another_snapshot_are_refused(tmp_path: Path) -> None:
    source, other = Source(tmp_path / "leader", 9), Source(tmp_path / "leader", 12)
    async with following(tmp_path) as follower:
        with pytest.raises(Conflict, match="snapshot 9 is not the one that is arriving"):
            await follower.take(source.chunk(0))
        await follower.offer(source)
        await follower.take(source.chunk(0))
        for stranger in (other.chunk(CHUNK), evolve(source.chunk(CHUNK), digest=b"another")):
            with pytest.raises(Conflict, match="is not the one that is arriving"):
                await follower.take(stranger)
        assert (await follower.take_from(source, CHUNK)).state is TAKEN
        assert follower.installed == [source.view]


async def test_s59_a_newer_snapshot_takes_the_place_of_one_that_arrives(tmp_path: Path) -> None:
    source, newer = Source(tmp_path / "leader", 9), Source(tmp_path / "leader", 12)
    async with following(tmp_path) as follower:
        await follower.offer(source)
        await follower.take(source.chunk(0))
        assert await follower.offer(newer) == SnapshotAnswer(WANTED, 0)
        assert [path.name for path in follower.directory.iterdir()] == [newer.stored.part]
        assert (await follower.take_from(newer, 0)).state is TAKEN
        assert follower.installed == [newer.view]
        # What the core has come past is not wanted any more.
        assert (await follower.offer(source)).state is TAKEN
        assert follower.installed == [newer.view]


async def test_s59_what_arrived_damaged_is_wanted_again_from_the_start(tmp_path: Path) -> None:
    source = Source(tmp_path / "leader", 9)
    async with following(tmp_path) as follower:
        await follower.offer(source)
        bad = evolve(source.chunk(0), data=bytes(CHUNK))
        await follower.take(bad)
        assert await follower.take_from(source, CHUNK) == SnapshotAnswer(WANTED, 0)
        assert follower.installed == []
        assert list(follower.directory.iterdir()) == []
        assert await follower.offer(source) == SnapshotAnswer(WANTED, 0)
        assert (await follower.take_from(source, 0)).state is TAKEN
        assert follower.installed == [source.view]


async def test_s59_another_clusters_snapshot_is_never_installed(tmp_path: Path) -> None:
    source = Source(tmp_path / "leader", 9, ClusterId("other"))
    async with following(tmp_path) as follower:
        await follower.offer(source)
        assert await follower.take_from(source, 0) == SnapshotAnswer(WANTED, 0)
        assert follower.installed == []


async def test_s59_a_sound_file_that_holds_no_state_is_never_installed(tmp_path: Path) -> None:
    source = Source(tmp_path / "leader", 9)
    slices = (part[:-1] for part in view_slices(source.view))
    source.stored = write_snapshot(tmp_path / "leader", CLUSTER, source.stored.meta, slices)
    source.data = (tmp_path / "leader" / str(source.stored.name)).read_bytes()
    async with following(tmp_path) as follower:
        await follower.offer(source)
        assert await follower.take_from(source, 0) == SnapshotAnswer(WANTED, 0)
        assert follower.installed == []


async def test_s59_a_restart_goes_on_with_what_has_arrived(tmp_path: Path) -> None:
    source = Source(tmp_path / "leader", 9)
    async with following(tmp_path) as follower:
        await follower.offer(source)
        for chunk in source.chunks()[:3]:
            await follower.take(chunk)
    async with following(tmp_path) as follower:
        assert await follower.offer(source) == SnapshotAnswer(WANTED, 3 * CHUNK)
        assert (await follower.take_from(source, 3 * CHUNK)).state is TAKEN
        assert follower.installed == [source.view]


async def test_s59_a_tail_that_a_power_cut_spoiled_costs_a_transfer_not_the_state(
    tmp_path: Path,
) -> None:
    source = Source(tmp_path / "leader", 9)
    part = tmp_path / "follower" / source.stored.part
    part.parent.mkdir()
    part.write_bytes(source.data[:CHUNK] + bytes(CHUNK))
    async with following(tmp_path) as follower:
        assert await follower.offer(source) == SnapshotAnswer(WANTED, 2 * CHUNK)
        assert await follower.take_from(source, 2 * CHUNK) == SnapshotAnswer(WANTED, 0)
        assert (await follower.offer(source)).offset == 0
        assert (await follower.take_from(source, 0)).state is TAKEN
        assert follower.installed == [source.view]


async def test_s59_a_chunk_beyond_the_end_is_not_written(tmp_path: Path) -> None:
    source = Source(tmp_path / "leader", 9)
    async with following(tmp_path) as follower:
        await follower.offer(source)
        too_long = evolve(source.chunk(0), data=bytes(len(source.data) + 1))
        assert await follower.take(too_long) == SnapshotAnswer(WANTED, 0)
        assert (follower.directory / source.stored.part).stat().st_size == 0


async def test_s59_a_disk_that_refuses_a_chunk_refuses_the_snapshot_not_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(tmp_path / "leader", 9)
    async with following(tmp_path) as follower:
        await follower.offer(source)
        with monkeypatch.context() as patch:

            def refuse(descriptor: int, data: bytes, offset: int) -> int:
                raise OSError(28, f"no space for {len(data)} bytes at {offset} of {descriptor}")

            patch.setattr(os, "pwrite", refuse)
            with pytest.raises(Unavailable, match="the disk refused a snapshot"):
                await follower.take(source.chunk(0))
        assert await follower.offer(source) == SnapshotAnswer(WANTED, 0)
        assert (await follower.take_from(source, 0)).state is TAKEN


async def test_s59_without_room_on_the_disk_nothing_is_begun(tmp_path: Path) -> None:
    source = Source(tmp_path / "leader", 9)
    async with following(tmp_path, room=False) as follower:
        with pytest.raises(Unavailable, match="no room for a snapshot"):
            await follower.offer(source)
        assert list(follower.directory.iterdir()) == []


async def test_an_older_terms_snapshot_is_answered_by_the_core_alone(tmp_path: Path) -> None:
    source = Source(tmp_path / "leader", 9)
    async with following(tmp_path) as follower:
        newer = evolve(source.message(term=5), snapshot=Snapshot(source.stored.meta, b""))
        follower.core.step(
            evolve(newer, snapshot=Snapshot(SnapshotMeta(Index(0), Term(0), CONF), b""))
        )
        follower.core.ready()
        assert (await follower.offer(source, term=1)).state is TAKEN
        assert follower.installed == []
        assert follower.core.status().term == 5
