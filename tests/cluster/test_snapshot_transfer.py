"""Scenarios S58 and S59 between managers: a lagging one catches up, whatever happens on the way."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attrs import define, evolve

from meshswarm.cluster import snapshot_sending, wire
from meshswarm.cluster.seat import Seat
from meshswarm.cluster.snapshots import list_snapshots
from meshswarm.errors import OutcomeUnknown, Unavailable
from meshswarm.ids import Index, NodeId
from meshswarm.mesh.requests import Reply
from meshswarm.store.commands import PutConfig
from meshswarm.store.slices import encode_view
from tests.support.managers import FAST, Manager, Managers, managers, until

CHUNK = 2_000
TRAILING = 20
AT_ONCE = 25
SETTINGS = evolve(
    FAST,
    heartbeat_ms=50,
    election_timeout_ms=1_000,
    proposal_timeout_s=10.0,
    snapshot_entries=100,
    trailing_entries=TRAILING,
)
"""Patient enough for one process that does the work of three, in debug mode, on a busy machine."""

INSTALLED = "installed a snapshot"


async def write(leader: Manager, count: int, rng: random.Random) -> None:
    """So many writes to fifty names."""
    assert leader.seat is not None
    for done in range(0, count, AT_ONCE):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(AT_ONCE, count - done)):
                command = PutConfig(name=f"c{rng.randrange(50)}", data=rng.randbytes(400))
                tasks.create_task(leader.seat.proposals.propose(command), name="write")


def first_index(manager: Manager) -> int:
    return manager.seat.driver.core.status().first_index if manager.seat else 0


def newest(directory: Path) -> Index:
    return list_snapshots(directory)[0].index


def applied(manager: Manager) -> int:
    return manager.seat.driver.hub.view.index if manager.seat else -1


def others(cluster: Managers, manager: Manager) -> list[Manager]:
    return [member for member in cluster.members if member is not manager]


def beats(manager: Manager) -> int:
    """Messages that reached it."""
    return manager.endpoint.counters()["messages_in"] if manager.endpoint else 0


def have_equal_states(cluster: Managers) -> bool:
    seats = [member.seat for member in cluster.members if member.seat]
    return len({encode_view(seat.driver.hub.view) for seat in seats}) == 1


@define
class Line:
    """The bulk lanes between managers, with a fault to each call."""

    chunks: int = 0
    offers: int = 0
    fault: Callable[[str], str] = lambda _: "none"
    is_open: asyncio.Event = asyncio.Event()

    def tap(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = Seat._call_bulk

        async def call(
            seat: Seat,
            to: NodeId,
            method: str,
            body: object,
            payloads: Sequence[bytes],
            timeout_s: float,
        ) -> Reply:
            if method == wire.SNAPSHOT_CHUNK:
                await self.is_open.wait()
                self.chunks += 1
            else:
                self.offers += 1
            fault = self.fault(method)
            if fault == "lost":
                raise Unavailable("lost by the test")
            if fault == "late":
                await asyncio.sleep(random.random() / 50)
            reply = await whole(seat, to, method, body, payloads, timeout_s)
            if fault == "twice":
                reply = await whole(seat, to, method, body, payloads, timeout_s)
            if fault == "unanswered":
                raise OutcomeUnknown("unanswered by the test")
            return reply

        monkeypatch.setattr(Seat, "_call_bulk", call)
        monkeypatch.setattr(snapshot_sending, "CHUNK_BYTES", CHUNK)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line(is_open=asyncio.Event())
    line.is_open.set()
    line.tap(monkeypatch)
    return line


@asynccontextmanager
async def lagging(tmp_path: Path) -> AsyncIterator[tuple[Managers, Manager, Manager]]:
    """A cluster whose leader's log does not reach one manager any more, which is stopped."""
    async with managers(tmp_path, settings=SETTINGS) as cluster:
        leader = await cluster.leads()
        sleeper = others(cluster, leader)[0]
        await sleeper.stop()
        await write(leader, 250, random.Random(1))
        await until(lambda: first_index(leader) > 50)
        yield cluster, leader, sleeper


async def test_s58_ten_times_the_trailing_log_is_written_during_a_transfer(
    tmp_path: Path, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with lagging(tmp_path) as (cluster, leader, sleeper):
        line.is_open.clear()
        sleeper.start()
        await until(lambda: line.offers > 0)
        sent, start = newest(tmp_path / leader.name), first_index(leader)
        await write(leader, 10 * TRAILING, random.Random(2))
        # Its own next snapshot comes meanwhile; the log is kept from the one under way on.
        await until(lambda: newest(tmp_path / leader.name) > sent)
        assert start <= first_index(leader) <= sent + 1
        line.is_open.set()
        await until(lambda: applied(sleeper) == applied(leader))
        assert have_equal_states(cluster)
        assert caplog.text.count(INSTALLED) == 1


async def test_s59_a_transfer_survives_a_line_that_loses_repeats_and_reorders(
    tmp_path: Path, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rng = random.Random(3)
    faults = ("none", "none", "lost", "twice", "late", "unanswered")
    line.fault = lambda _: rng.choice(faults)
    async with lagging(tmp_path) as (cluster, leader, sleeper):
        sleeper.start()
        await until(lambda: applied(sleeper) == applied(leader))
        assert have_equal_states(cluster)
        assert caplog.text.count(INSTALLED) == 1
        assert line.offers > 1


async def test_s59_a_lost_connection_costs_what_was_under_way_and_no_more(
    tmp_path: Path, line: Line
) -> None:
    line.fault = lambda method: "lost" if method == wire.SNAPSHOT_CHUNK and line.chunks == 5 else ""
    async with lagging(tmp_path) as (cluster, leader, sleeper):
        sleeper.start()
        await until(lambda: applied(sleeper) == applied(leader))
        assert have_equal_states(cluster)
        size = max(path.stat().st_size for path in (tmp_path / leader.name).glob("snapshot-*"))
        assert line.chunks <= size // CHUNK + 1 + 2 * snapshot_sending.CHUNKS_UNDER_WAY


async def test_s59_a_receiver_that_restarts_goes_on_where_it_was(
    tmp_path: Path, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with lagging(tmp_path) as (cluster, leader, sleeper):

        def hold_the_fifth(_: str) -> str:
            if line.chunks == 5:
                line.is_open.clear()
            return ""

        line.fault = hold_the_fifth
        sleeper.start()
        parts = tmp_path / sleeper.name
        await until(lambda: [p for p in parts.glob("*.part") if p.stat().st_size >= CHUNK] != [])
        await sleeper.stop()
        line.fault = lambda _: ""
        sleeper.start()
        line.is_open.set()
        await until(lambda: applied(sleeper) == applied(leader))
        assert have_equal_states(cluster)
        begun = [r for r in caplog.messages if r.startswith("receiving a snapshot")]
        assert int(begun[-1].rpartition("from=")[2]) >= CHUNK
        assert caplog.text.count(INSTALLED) == 1


async def test_a_wiped_manager_is_sent_one_snapshot_however_long_that_takes(
    tmp_path: Path, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with lagging(tmp_path) as (cluster, leader, sleeper):
        shutil.rmtree(tmp_path / sleeper.name)
        line.is_open.clear()
        sleeper.start()
        await until(lambda: line.offers > 0)
        heard = beats(sleeper)
        # At each heartbeat it says that it lacks what it may once have acknowledged.
        await until(lambda: beats(sleeper) >= heard + 10)
        line.is_open.set()
        await until(lambda: applied(sleeper) == applied(leader))
        assert have_equal_states(cluster)
        assert caplog.text.count("sending a snapshot") == 1
        assert caplog.text.count(INSTALLED) == 1


async def test_s59_the_next_leader_brings_a_snapshot_of_its_own(tmp_path: Path, line: Line) -> None:
    async with lagging(tmp_path) as (cluster, leader, sleeper):
        line.is_open.clear()
        sleeper.start()
        await until(lambda: line.offers > 0)
        assert leader.seat is not None
        await leader.seat.leave_leadership(2.0)
        heir = await cluster.leads(not_=leader)
        line.is_open.set()
        await write(heir, 5, random.Random(4))
        await until(lambda: applied(sleeper) == applied(heir) == applied(leader))
        assert have_equal_states(cluster)


async def test_a_leader_whose_stored_snapshot_is_damaged_sends_a_fresh_one(
    tmp_path: Path, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    async with lagging(tmp_path) as (cluster, leader, sleeper):
        for path in (tmp_path / leader.name).glob("snapshot-*"):
            path.write_bytes(path.read_bytes()[:-40] + bytes(40))
        sleeper.start()
        await until(lambda: "no snapshot can be sent" in caplog.text)
        await until(lambda: applied(sleeper) == applied(leader))
        assert have_equal_states(cluster)
        assert line.chunks > 0
