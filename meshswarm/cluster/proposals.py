"""Commands on their way into the log, and reads on their way past it.

Any manager takes them: the leader appends, the others hand them to the leader over the mesh. The
answer comes after commit and apply, so that whoever got it will find it everywhere, whatever fails
next. An attempt has one deadline; when it passes, the answer is `OutcomeUnknown` (the command may
still be committed) or `Unavailable` (it was never sent).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import attrs

from meshswarm import codec
from meshswarm.cluster.driver import NOT_CONFIRMED, Driver, Fresh, Waiter, unconfirmed
from meshswarm.cluster.settings import ClusterSettings
from meshswarm.errors import Conflict, Invalid, MeshswarmError, OutcomeUnknown, Unavailable
from meshswarm.ids import Index, NodeId
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.gathering import Gathering, Start
from meshswarm.mesh.peers import Lane, Peer
from meshswarm.mesh.requests import Reply
from meshswarm.store.commands import Command, encode_command, group_of
from meshswarm.store.log_entry import LogEntry, Request
from meshswarm.store.outcome import Outcome, outcome_of
from meshswarm.store.view import View

T = TypeVar("T")

HAND_OVER_S = 2.0
"""How long a hand-over is waited for, at least."""

FORWARD, READ_INDEX, HAND_OVER = "propose.forward", "read_index", "hand_over"
"""The mesh calls that managers make to the leader."""

Told = Callable[[Outcome | MeshswarmError], None]
"""Told what became of a command, or why nobody can say."""

PAUSE_S = 0.02
"""Between two attempts, so that a leader that is just changing is not hammered."""

MAX_TOGETHER = 500
"""Reports of agents in one entry of the log ..."""

MAX_TOGETHER_BYTES = 256 << 10
"""... and about how many bytes of them."""

MAX_CONFIRMED = 10_000
"""Reads that one confirmation is for."""

LOOK_S = 0.05
"""How often whoever waits for a leader looks whether it can be reached by now."""


class Proposals:
    """The verbs of `store.port.Cluster`, on a manager."""

    def __init__(
        self,
        driver: Driver,
        endpoint: Endpoint,
        managers: Callable[[NodeId], Peer | None],
        settings: ClusterSettings,
        name: str,
    ) -> None:
        self._driver = driver
        self._endpoint = endpoint
        self._managers = managers
        self._settings = settings
        self._name = name
        self._now = time.monotonic  # as the loop's
        self._start: Start = endpoint.start
        self._log_ms, self._log_set_s = 0.0, 0.0
        self._leader_known = asyncio.Event()
        self._asking: dict[asyncio.Timeout, NodeId] = {}
        self._reports = Gathering[tuple[bytes, str], Outcome](
            self._submit_reports,
            endpoint.start,
            name="reports",
            size_of=lambda report: len(report[0]),
            most_items=MAX_TOGETHER,
            most_bytes=MAX_TOGETHER_BYTES,
        )
        self._confirmations = Gathering[None, Index](
            self._confirm_all,
            endpoint.start,
            name="confirmations",
            size_of=lambda _: 0,
            most_items=MAX_CONFIRMED,
            most_bytes=1,
        )
        driver.on_role_change(self._note_leader)

    # --- the verbs ----------------------------------------------------------------------------

    async def propose(self, command: Command) -> Outcome:
        """Carry out this node's own command; raises its refusal, or `Unavailable`."""
        outcome = await self.submit(encode_command(command), None, self._name)
        if outcome.error is not None:
            raise outcome.error
        return outcome

    async def submit(
        self,
        command: bytes,
        request: Request | None,
        by: str,
        unsure: OutcomeUnknown | None = None,
    ) -> Outcome:
        """Carry out an encoded command for `by`, wherever the leader is.

        What was surely not carried out is tried again until the deadline; a named request also
        when nobody knows, because the state applies it once however often it is sent. Once one
        attempt's outcome is unknown (`unsure`: of one before), the last word is never "nothing was
        done".
        """
        deadline = self._deadline()
        while True:
            try:
                leader = await self._leader(deadline)
            except Unavailable:
                if unsure is not None:
                    raise unsure from None
                raise
            try:
                if leader is None:
                    return await self.append(command, request, by, deadline)
                return await self._forward(leader, command, request, by, deadline)
            except OutcomeUnknown as error:
                if request is None:
                    raise
                unsure = error
                await self._pause(deadline, error)
            except Unavailable as error:
                await self._pause(deadline, unsure or error)

    async def report(self, command: bytes, by: str) -> Outcome:
        """Carry out an agent's report, with those of others that wait: hundreds of agents have one
        entry and one message to the leader between them. As `submit` without a request."""
        return await self._reports.put((command, by))

    async def _submit_reports(self, reports: list[tuple[bytes, str]]) -> Sequence[Outcome]:
        if len(reports) == 1:
            ((command, by),) = reports
            return [await self.submit(command, None, by)]
        outcome = await self.submit(group_of([one for one, _ in reports]), None, self._name)
        return outcome.parts if outcome.error is None else [outcome] * len(reports)

    async def append(
        self, command: bytes, request: Request | None, by: str, deadline: float
    ) -> Outcome:
        """On the leader: append, wait for commit and apply; raises `NotLeader` elsewhere."""
        entry = LogEntry(at_ms=self.log_time_ms(), by=by, request=request, command=command)
        done: asyncio.Future[Outcome | Unavailable] = asyncio.get_running_loop().create_future()

        def settle(outcome: Outcome | Unavailable) -> None:
            if not done.done():
                done.set_result(outcome)

        self._driver.propose(entry.encoded(), settle)
        self._driver.end_turn_soon()
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await done
        except TimeoutError:
            raise unconfirmed() from None
        if isinstance(outcome, Unavailable):
            raise outcome
        return outcome

    # --- the same without a task, for what comes by the thousand --------------------------------

    def submit_at_once(self, command: bytes, request: Request | None, by: str, told: Told) -> bool:
        """As `submit`, begun in this turn of the mesh; False if this is no leader that can take it:
        nothing was done."""

        def settled(outcome: Outcome | Unavailable) -> None:
            may_repeat = request is not None or not isinstance(outcome, OutcomeUnknown)
            if isinstance(outcome, Unavailable) and may_repeat and self._now() < deadline:
                unsure = outcome if isinstance(outcome, OutcomeUnknown) else None
                work = _tell(self.submit(command, request, by, unsure), told)
                self._start(work, "a proposal that lost its leader")
            else:
                told(outcome)

        deadline = self._deadline()
        return self.append_at_once(command, request, by, settled)

    def append_at_once(
        self, command: bytes, request: Request | None, by: str, told: Waiter
    ) -> bool:
        """As `append_here`, begun in this turn of the mesh; False elsewhere than on a leader."""
        if not self._driver.core.leads:
            return False
        entry = LogEntry(at_ms=self.log_time_ms(), by=by, request=request, command=command)
        try:
            self._driver.propose(entry.encoded(), told)
        except Unavailable:
            return False
        return True

    def read_at_once(self, told: Callable[[View | MeshswarmError], None]) -> bool:
        """As `read`, begun in this turn of the mesh; False elsewhere than on a leader."""
        if not self._driver.core.leads:
            return False

        def confirmed(index: Fresh) -> None:
            view = self._driver.hub.view
            if isinstance(index, int) and view.index >= index:
                told(view)
            elif self._now() < deadline:
                self._start(_tell(self.read(), told), "a read that takes longer")
            else:
                told(Unavailable(NOT_CONFIRMED))

        deadline = self._deadline()
        try:
            self._driver.confirm(confirmed)
        except Unavailable:
            return False
        return True

    def log_time_ms(self) -> int:
        """Log time now: this node's wall clock, but never behind the log's.

        Where an earlier leader's clock was ahead of ours, it goes on from there at the pace of
        time: if it stood still until ours had caught up, so would every backoff and every rollout.
        """
        now = self._now()
        went_on_ms = self._log_ms + 1_000 * (now - self._log_set_s) if self._log_ms else 0.0
        self._log_ms = max(went_on_ms, self._driver.hub.view.clock_ms, _wall_ms())
        self._log_set_s = now
        return int(self._log_ms)

    async def append_own(self, command: Command) -> Outcome:
        """Carry out this leader's own command, here or not at all; raises as `append` does."""
        return await self.append(encode_command(command), None, self._name, self._deadline())

    async def append_here(self, command: bytes, request: Request | None, by: str) -> Outcome:
        """What another manager handed over: append, or raise `raft.NotLeader` if this is not it."""
        return await self.append(command, request, by, self._deadline())

    async def hand_over(self, target: NodeId | None) -> tuple[NodeId, int]:
        """Let the leader hand leadership to `target`, or to the most up-to-date other voter.

        Returns the new leader and its term. Raises `Invalid` for a node that is no voter; when the
        hand-over was given up, and the old leader goes on, `Conflict` if `target` did not take
        it, `Unavailable` if nobody did.
        """
        deadline = self._deadline()
        status = self._driver.core.status()
        if target is not None and target not in status.conf.voters:
            raise Invalid("only managers can lead", hint="meshswarm node ls")
        leader = await self._leader(deadline)
        if leader is not None:
            reply = await self._endpoint.link(leader).call(
                Lane.CONTROL, HAND_OVER, [target], timeout_s=self._left(deadline)
            )
            node, term = codec.structure(reply.body, tuple[str, int])
            return NodeId(node), term
        return await self.hand_over_here(target)

    async def hand_over_here(self, target: NodeId | None) -> tuple[NodeId, int]:
        """On the leader: hand over, wait for the new leader; raises `NotLeader` elsewhere."""
        # The core gives up after one election timeout.
        patience_s = max(HAND_OVER_S, 2 * self._settings.election_timeout_ms / 1_000)
        deadline = min(self._deadline(), self._now() + patience_s)
        me = self._driver.core.id
        if target == me:
            return me, self._driver.core.term
        self._driver.transfer_leadership(target)
        while True:
            core = self._driver.core
            if core.leader is not None and core.leader != me:
                return core.leader, core.term
            self._leader_known.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._leader_known.wait()
            except TimeoutError:
                if target is None:
                    raise Unavailable("no other manager took leadership over in time") from None
                heir = self._managers(target)
                raise Conflict(
                    f"{heir.name if heir else target} did not take leadership over: "
                    f"{self._name} goes on leading",
                    hint="meshswarm cluster status",
                ) from None

    async def confirm(self) -> Index:
        """An index that holds everything acknowledged before now; asks the leader, once for all
        who ask meanwhile.

        Raises `Unavailable` when no leader with a quorum can be found in time.
        """
        try:
            async with asyncio.timeout(self._settings.proposal_timeout_s):
                return await self._confirmations.put(None)
        except TimeoutError:
            raise Unavailable("no leader confirmed the read in time") from None

    async def _confirm_all(self, asked: list[None]) -> Sequence[Index]:
        return [await self._confirm()] * len(asked)

    async def _confirm(self) -> Index:
        deadline = self._deadline()
        while True:
            leader = await self._leader(deadline)
            try:
                if leader is not None:
                    reply = await self._ask(leader, Lane.CONTROL, READ_INDEX, [], deadline=deadline)
                    return Index(codec.structure(reply.body, int))
                async with asyncio.timeout_at(deadline):
                    return await self._driver.confirmed_index()
            except Unavailable as error:
                await self._pause(deadline, error)
            except TimeoutError:
                raise Unavailable(NOT_CONFIRMED) from None

    async def read(self) -> View:
        """A view that holds everything acknowledged before this call; raises `Unavailable`."""
        index = await self.confirm()
        try:
            async with asyncio.timeout(self._settings.proposal_timeout_s):
                await self._driver.applied(index)
        except TimeoutError:
            raise Unavailable(f"this manager has not applied entry {index} yet") from None
        return self._driver.hub.view

    # --- finding the leader -------------------------------------------------------------------

    async def _leader(self, deadline: float) -> Peer | None:
        """The leader to ask, None if it is this node; waits for one until the deadline.

        A Disconnected manager does not wait: it refuses at once.
        """
        while True:
            core = self._driver.core
            if core.is_disconnected:
                raise Unavailable(self._why_disconnected(), hint="meshswarm cluster status")
            if core.leader == core.id:
                return None
            if core.leader is not None:
                peer = self._managers(core.leader)
                if peer is not None and self._endpoint.link(peer).is_up:
                    return peer
            self._leader_known.clear()
            await self._news_of_leader(min(deadline, self._now() + LOOK_S))
            if self._now() >= deadline:
                raise Unavailable("no leader was elected in time", hint="meshswarm cluster status")

    def _why_disconnected(self) -> str:
        status = self._driver.core.status()
        voters = [self._managers(voter) for voter in status.conf.voters if voter != status.id]
        missing = [
            peer.name for peer in voters if peer is not None and not self._endpoint.link(peer).is_up
        ]
        if status.last_index or not missing:
            return "this manager hears no leader and reaches no quorum"
        return (
            "nothing is stored here; a new cluster begins with all its managers, and these are "
            f"missing: {', '.join(missing)}"
        )

    async def _news_of_leader(self, until: float) -> None:
        """Wait for another leader, or until then: a link that comes up tells nobody."""
        try:
            async with asyncio.timeout_at(until):
                await self._leader_known.wait()
        except TimeoutError:
            return

    def _note_leader(self) -> None:
        """Wake who waits for a leader, and whoever asks one that leads no longer.

        Whose time is over just now is woken by that; its limit can be moved no more.
        """
        self._leader_known.set()
        leader = self._driver.core.leader
        for limit, asked in self._asking.items():
            if asked != leader and not limit.expired():
                limit.reschedule(self._now())

    async def _ask(
        self,
        leader: Peer,
        lane: Lane,
        method: str,
        body: object,
        payloads: tuple[bytes, ...] = (),
        *,
        deadline: float,
    ) -> Reply:
        """The leader's answer; given up as soon as another leads (a frozen one never answers)."""
        try:
            async with asyncio.timeout_at(deadline) as limit:
                self._asking[limit] = leader.id
                try:
                    return await self._endpoint.link(leader).call(
                        lane, method, body, payloads, timeout_s=self._left(deadline)
                    )
                finally:
                    del self._asking[limit]
        except TimeoutError:
            raise _unknown(f"{leader.name} did not answer as long as it led") from None

    async def _forward(
        self, leader: Peer, command: bytes, request: Request | None, by: str, deadline: float
    ) -> Outcome:
        name = list(attrs.astuple(request)) if request else None
        try:
            reply = await self._ask(
                leader, Lane.DATA, FORWARD, [name, by], (command,), deadline=deadline
            )
        except MeshswarmError as error:
            if type(error) is MeshswarmError:  # the leader broke down over it, before or after
                raise _unknown(error.message) from error
            raise
        return outcome_of(reply.body)

    # --- deadlines ----------------------------------------------------------------------------

    def _deadline(self) -> float:
        return self._now() + self._settings.proposal_timeout_s

    def _left(self, deadline: float) -> float:
        return max(0.001, deadline - self._now())

    async def _pause(self, deadline: float, error: Unavailable) -> None:
        """A breath between attempts; at the deadline the last attempt's error stands."""
        if self._left(deadline) <= PAUSE_S:
            raise error
        await asyncio.sleep(PAUSE_S)


async def _tell(work: Awaitable[T], told: Callable[[T | MeshswarmError], None]) -> None:
    """Await it and tell what it gave, or raised."""
    try:
        found = await work
    except MeshswarmError as error:
        told(error)
    else:
        told(found)


def _unknown(why: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"{why}; the command may still be carried out")


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
