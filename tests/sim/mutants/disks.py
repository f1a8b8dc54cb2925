"""Mistakes in what is durable before it is told."""

import pytest
from attrs import evolve
from immutables import Map

from meshswarm.ids import Index
from meshswarm.raft import outbox
from meshswarm.raft.core import RaftCore
from meshswarm.raft.log import RaftLog
from meshswarm.raft.messages import AppendReply, Message, RequestVote, VoteReply
from meshswarm.raft.ready import Ready
from meshswarm.raft.types import SnapshotMeta
from meshswarm.sim import driver
from meshswarm.sim.clock import Life, Work
from meshswarm.sim.disk import Adopt, Append, Disk, Drop, Note
from meshswarm.store.slices import encode_view
from meshswarm.store.view import View


def sends_early(patch: pytest.MonkeyPatch, kind: type[Message]) -> None:
    right = outbox.waits_for_disk
    wrong = lambda message: right(message) and not isinstance(message, kind)  # noqa: E731
    patch.setattr(outbox, "waits_for_disk", wrong)


def tells_its_vote_early(patch: pytest.MonkeyPatch) -> None:
    """A vote is told before it is durable."""
    sends_early(patch, VoteReply)


def runs_early(patch: pytest.MonkeyPatch) -> None:
    """A candidate asks for votes before its own is durable."""
    sends_early(patch, RequestVote)


def acknowledges_early(patch: pytest.MonkeyPatch) -> None:
    """A follower acknowledges entries before they are durable."""
    sends_early(patch, AppendReply)


def forgets_its_vote(patch: pytest.MonkeyPatch) -> None:
    """The vote is not saved with the term."""
    right = RaftCore.ready

    def ready(core: RaftCore) -> Ready:
        made = right(core)
        hard = made.hard_state
        return made if hard is None else evolve(made, hard_state=evolve(hard, vote=None))

    patch.setattr(RaftCore, "ready", ready)


def does_not_sync(patch: pytest.MonkeyPatch) -> None:
    """Writes are acknowledged as soon as the kernel has them."""
    right = Disk.submit

    def submit(disk: Disk, life: Life, write: Append | Adopt | Drop | Note, done: Work) -> None:
        right(disk, life, write, lambda: None)
        life.after(0, done)

    patch.setattr(Disk, "submit", submit)


def counts_itself_early(patch: pytest.MonkeyPatch) -> None:
    """A leader counts its own entries before its disk has them."""
    durable = property(lambda log: log.last_index, lambda log, value: None)
    patch.setattr(RaftLog, "durable", durable, raising=False)


def votes_although_it_lost(patch: pytest.MonkeyPatch) -> None:
    """A node whose log was damaged goes on voting and running as if nothing was missing."""
    right = driver._core

    def sound(*arguments: object) -> RaftCore:
        core = right(*arguments)  # type: ignore[arg-type]
        core._state.recovery = 0
        return core

    patch.setattr(driver, "_core", sound)


def votes_although_it_is_blank(patch: pytest.MonkeyPatch) -> None:
    """A node whose disk was wiped votes like a new one."""
    right = driver._core

    def seasoned(*arguments: object) -> RaftCore:
        core = right(*arguments)  # type: ignore[arg-type]
        core._state.blank = False
        return core

    patch.setattr(driver, "_core", seasoned)


def leaves_members_out(patch: pytest.MonkeyPatch) -> None:
    """A snapshot has the founders for members, whoever they are by now."""
    right = RaftCore.snapshot_meta
    founders: dict[int, SnapshotMeta] = {}

    def snapshot_meta(core: RaftCore) -> SnapshotMeta:
        meta = right(core)
        conf = founders.setdefault(0, meta).conf
        return evolve(meta, conf=conf)

    patch.setattr(RaftCore, "snapshot_meta", snapshot_meta)


def leaves_requests_out(patch: pytest.MonkeyPatch) -> None:
    """A snapshot does not hold which requests were carried out."""

    def encode(view: View) -> bytes:
        return encode_view(evolve(view, clients=Map()))

    patch.setattr(driver, "encode_view", encode)


def takes_an_older_state(patch: pytest.MonkeyPatch) -> None:
    """A snapshot holds the state of one entry before the one that it names."""

    def encode(view: View) -> bytes:
        return encode_view(evolve(view, index=Index(view.index - 1)))

    patch.setattr(driver, "encode_view", encode)
