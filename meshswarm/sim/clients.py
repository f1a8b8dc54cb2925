"""Who asks the managers for something, and the users: they deploy, scale and remove."""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from meshswarm.errors import Unavailable
from meshswarm.ids import ClientId, NodeId
from meshswarm.model.node import Availability
from meshswarm.model.rollout import FailureAction, UpdateOrder, UpdatePolicy
from meshswarm.model.service import Mode, RestartPolicy, RuntimeKind, Service, ServiceSpec, TaskSpec
from meshswarm.model.stack import StackSpec
from meshswarm.sim import job_wishes
from meshswarm.sim.clock import Life, Script
from meshswarm.sim.seat import Premises, Seat
from meshswarm.store.commands import (
    Command,
    PauseRollout,
    PutStack,
    RemoveService,
    RemoveStack,
    RestartService,
    ResumeRollout,
    RollBackService,
    ScaleService,
    UpdateNode,
    encode_command,
)
from meshswarm.store.log_entry import Request
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import View

T = TypeVar("T")

CALL_MS = 7_000
"""How long a user waits for one manager's answer."""

STACKS = ("shop", "blog", "jobs")
MAX_REPLICAS = 4

JOBS_SHARE = 0.5
"""Of the wishes in a world with jobs: what is about them."""

ONE_AT_MOST = "db"
"""The part of each stack of whose slots at most one task runs, often."""

BUDGETS = {("shop", "db"): 1, ("blog", "db"): 0, ("blog", "web"): 0}
"""How many tasks of these parts of stacks may be missing for a move's sake."""

STARTS_FIRST = "web"
"""The part of each stack whose old tasks stop last."""


class Caller:
    """How a client asks: any manager, again and again until there is an answer."""

    def __init__(self, name: str, life: Life, premises: Premises, rng: random.Random) -> None:
        self.id = ClientId(name)
        self.life = life
        self._premises, self._rng = premises, rng
        self._sequence = 0
        self._at: NodeId | None = None
        """The manager that it asks."""

    async def propose(self, command: Command) -> Outcome:
        """Have it carried out exactly once, however often that takes asking."""
        self._sequence += 1
        request = Request(client=self.id, sequence=self._sequence, acknowledged=self._sequence - 1)
        history = self._premises.checkers.history
        history.sends(request)
        while True:
            try:
                outcome = await self._submit(command, request)
            except Unavailable:
                await self.life.sleep(self._rng.randrange(50, 500))
                continue
            history.acknowledges(request, outcome)
            self._tell(command, outcome)
            return outcome

    async def propose_once(self, command: Command) -> Outcome:
        """One attempt without a name; raises `OutcomeUnknown` if nobody knows what came of it,
        any other `Unavailable` if surely nothing did."""
        outcome = await self._submit(command, None)
        self._tell(command, outcome)
        return outcome

    async def _submit(self, command: Command, request: Request | None) -> Outcome:
        data = encode_command(command)
        return await self._ask("propose", lambda seat: seat.submit(data, request, self.id))

    def _tell(self, command: Command, outcome: Outcome) -> None:
        text = f"{self.id} {type(command).__name__} at {outcome.index}"
        self._premises.network.trace.tell("ack", text)

    async def read(self) -> View:
        """A view that holds all that was acknowledged before."""
        history = self._premises.checkers.history
        while True:
            asked_after = history.newest_ack
            try:
                view = await self._ask("read", Seat.read)
            except Unavailable:
                await self.life.sleep(self._rng.randrange(50, 500))
                continue
            history.reads(asked_after, view)
            return view

    async def _ask(self, what: str, question: Callable[[Seat], Script[T]]) -> T:
        """One attempt, mostly at the manager that answered the last one."""
        if self._at is None or self._rng.random() < 0.1:
            self._at = NodeId(self._rng.choice(self._premises.shape.manager_ids))
        door = self._premises.managers[self._at]
        network = self._premises.network
        try:
            return await network.ask(self.life, self.id, door, what, question, CALL_MS)
        except Unavailable:
            self._at = None
            raise


class User:
    """One user who deploys, one request at a time."""

    def __init__(self, caller: Caller, premises: Premises, rng: random.Random) -> None:
        self.id, self.life = caller.id, caller.life
        self.is_busy = False
        """Whether a request waits for its answer."""
        self._caller, self._premises, self._rng = caller, premises, rng
        workers = [node for node in premises.shape.node_ids if node.startswith("w")]
        self._wishes = Wishes(rng, workers, has_jobs=premises.shape.has_jobs)
        self._wants = True
        self.life.spawn(self._use())

    def rest(self) -> None:
        """Ask for nothing new."""
        self._wants = False

    async def _use(self) -> None:
        while True:
            await self.life.sleep(self._rng.randrange(200, self._premises.shape.think_ms))
            if self._wants:
                self.is_busy = True
                view = await self._caller.read()
                await self._caller.propose(self._wishes.next(view))
                self.is_busy = False


class Wishes:
    """What a user asks for, by chance; `workers` are the nodes that may be drained."""

    def __init__(
        self, rng: random.Random, workers: Sequence[str], *, has_jobs: bool = False
    ) -> None:
        self._rng, self._workers = rng, workers
        self._has_jobs = has_jobs

    def next(self, view: View) -> Command:
        """What to ask for, given what there is."""
        rng = self._rng
        if self._has_jobs and rng.random() < JOBS_SHARE:
            return job_wishes.wish(rng, view)
        # A job's run is nobody's to change.
        runs = {run.service_id for run in view.runs.values() if run.job_id is not None}
        services = [row for row in view.sorted_services() if row.id not in runs]
        kind = rng.randrange(13)
        if kind == 0:
            return RemoveStack(name=rng.choice(STACKS))
        if kind == 1:
            return self._availability(view)
        if kind <= 4 and services:
            service: Service = rng.choice(services)
            if kind == 4 and rng.random() < 0.3:
                return RemoveService(service_id=service.id)
            return ScaleService(service_id=service.id, replicas=rng.randrange(MAX_REPLICAS + 1))
        if kind >= 10 and services:
            return self._turn(rng.choice(services))
        return PutStack(spec=self._stack(rng.choice(STACKS)))

    def _turn(self, service: Service) -> Command:
        """Have a service restarted, or its rollout paused, resumed or turned back."""
        kind = self._rng.choice((PauseRollout, ResumeRollout, RollBackService, RestartService))
        return kind(service_id=service.id)

    def _availability(self, view: View) -> Command:
        """Let a worker work or not; managers always do, so that there is room."""
        if not self._workers:
            return RemoveStack(name=self._rng.choice(STACKS))
        return UpdateNode(
            node_id=NodeId(self._rng.choice(self._workers)),
            availability=self._rng.choice(tuple(Availability)),
        )

    def _stack(self, name: str) -> StackSpec:
        parts = self._rng.sample(("web", "db", "cron"), self._rng.randrange(1, 4))
        return StackSpec(name=name, services=tuple(self._service(name, part) for part in parts))

    def _service(self, stack: str, part: str) -> ServiceSpec:
        rng = self._rng
        return ServiceSpec(
            name=f"{stack}_{part}",
            stack=stack,
            mode=Mode.GLOBAL if rng.random() < 0.15 else Mode.REPLICATED,
            replicas=rng.randrange(MAX_REPLICAS + 1),
            max_unavailable=BUDGETS.get((stack, part)),
            update=self._policy(part),
            rollback=self._policy(part),
            task=TaskSpec(
                runtime=RuntimeKind.PROCESS,
                command=("run", f"v{rng.randrange(1, 4)}"),
                stop_grace_period_s=rng.choice((0.5, 2.0)),
                restart=RestartPolicy(max_delay_s=2.0, reset_after_s=10.0),
                lost_after_s=rng.choice((None, 8.0)) if part != STARTS_FIRST else None,
                stop_after_s=rng.choice((None, 6.0)) if part == ONE_AT_MOST else None,
            ),
        )

    def _policy(self, part: str) -> UpdatePolicy:
        rng = self._rng
        order = UpdateOrder.START_FIRST if part == STARTS_FIRST else UpdateOrder.STOP_FIRST
        return UpdatePolicy(
            parallelism=rng.randrange(3),
            delay_s=rng.choice((0.0, 0.0, 1.5)),
            order=order,
            failure_action=rng.choice(tuple(FailureAction)),
            monitor_s=rng.choice((1.0, 5.0)),
            max_failure_ratio=rng.choice((0.0, 0.5)),
            healthy_deadline_s=rng.choice((10.0, 60.0)),
            progress_deadline_s=60.0,
            step=rng.random() < 0.1,
        )
