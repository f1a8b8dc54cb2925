"""A cluster without one: commands are applied at once to a view in memory, by the real `apply`.

`FakeClient` stands for `client.Client` in tests of the command line. `on_change`, if set, makes
the next view of each one that a watcher is shown: what controllers and agents would do.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from attrs import evolve

from meshswarm.answers import Answer, Elected, FileRow, LogLine, ManagerStatus, TaskLines
from meshswarm.client import Client
from meshswarm.control.decide import decide
from meshswarm.control.liveness import Liveness, LivenessPolicy
from meshswarm.errors import Unavailable
from meshswarm.ids import Index, NodeId, ServiceId, TaskId, Term
from meshswarm.model.file import FileKind
from meshswarm.model.node import NodeDescription, NodeRole, NodeState
from meshswarm.model.service import Mode, RuntimeKind, ServiceSpec, TaskSpec
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import DesiredState, Health, TaskState, TaskStatus
from meshswarm.store.apply import apply_command
from meshswarm.store.commands import (
    Command,
    CreateTask,
    PutSecret,
    PutSecretsKey,
    PutStack,
    RegisterNode,
    ReportTasks,
    SetNodeState,
    Simple,
    TaskReport,
)
from meshswarm.store.feed import row_of
from meshswarm.store.files import listing
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import Table, View

SINCE_MS = 1_700_000_000_000


class FakeClient:
    """Answers from `view`; `unreachable` fails everything but `statuses`."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.proposed: list[Command] = []
        self.answers: list[Answer] = []
        self.log_lines: list[LogLine] = []
        self.written: dict[TaskId, list[TaskLines]] = {}
        self.elections: list[NodeId | None] = []
        self.unreachable: Unavailable | None = None
        self.on_change: Callable[[View], View] | None = None
        self.contexts: list[Path | None] = []

    @asynccontextmanager
    async def connect(self, context: Path | None) -> AsyncIterator[Client]:
        """What `main` is given instead of the real way to a cluster."""
        self.contexts.append(context)
        yield cast(Client, self)

    async def propose(self, command: Command) -> Outcome:
        self._refuse()
        self.proposed.append(command)
        applied = apply_command(evolve(self.view, index=Index(self.view.index + 1)), command)
        self.view = applied.view
        if applied.outcome.error is not None:
            raise applied.outcome.error
        return applied.outcome

    async def read(self, *tables: Table) -> View:
        self._refuse()
        return self.view

    async def row(self, table: Table, key: str) -> object | None:
        self._refuse()
        return row_of(self.view, table, key)

    async def files(self, kind: FileKind) -> list[FileRow]:
        self._refuse()
        return listing(self.view, kind)

    async def watch_files(self, kind: FileKind) -> AsyncGenerator[list[FileRow], None]:
        async for view in self.watch():
            yield listing(view, kind)

    async def sealed(self, name: str, content: bytes, **fields: Any) -> PutSecret:
        """Nothing is sealed here: the digest and what is stored are hashes of the content."""
        self._refuse()
        if not self.view.secrets_keys:
            await self.propose(PutSecretsKey(key_id="k", sealed_for={}))
        digest = hashlib.sha256(content).digest()
        return PutSecret(name=name, sealed=digest, digest=digest, key_id="k", **fields)

    async def watch(self, *tables: Table) -> AsyncGenerator[View, None]:
        while self.on_change is not None:
            self._refuse()
            self.view = self.on_change(self.view)
            yield self.view
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    async def statuses(self, *, without: str | None = None) -> list[Answer]:
        return self.answers

    async def log(
        self, *, start: Index | None = None, tail: int | None = None, follow: bool = False
    ) -> AsyncGenerator[LogLine, None]:
        for line in self.log_lines:
            if start is None or line.index >= start:
                yield line

    async def elect(self, node_id: NodeId | None = None) -> Elected:
        self.elections.append(node_id)
        return Elected(leader="n2", term=Term(8))

    async def task_logs(
        self, task_id: TaskId, *, follow: bool, tail: int | None, since_ms: int | None
    ) -> AsyncGenerator[TaskLines, None]:
        if task_id not in self.written:
            raise Unavailable("its node is down")
        for lines in self.written[task_id]:
            yield lines

    def _refuse(self) -> None:
        if self.unreachable is not None:
            raise self.unreachable


# --- views ----------------------------------------------------------------------------------------


def cluster_of(*names: str) -> View:
    """A view of these managers, all ready."""
    view = View()
    for name in names:
        view = then(
            view,
            RegisterNode(
                node_id=NodeId(f"id{name}"),
                name=name,
                role=NodeRole.MANAGER,
                address=f"{name}:4747",
                incarnation=1,
                labels={},
                description=NodeDescription(runtimes=(RuntimeKind.PROCESS,)),
            ),
            SetNodeState(node_id=NodeId(f"id{name}"), state=NodeState.READY, message=""),
        )
    return view


def then(view: View, *commands: Command) -> View:
    """The view after these commands, each an entry of its own; none may be refused."""
    for command in commands:
        applied = apply_command(evolve(view, index=Index(view.index + 1)), command)
        assert applied.outcome.error is None, f"{command}: {applied.outcome.error}"
        view = applied.view
    return view


def stack(name: str, **replicas: int) -> StackSpec:
    """A stack of plain processes: `stack("shop", web=3)`."""
    return StackSpec(
        name=name, services=tuple(service(f"{name}_{key}", n) for key, n in replicas.items())
    )


def service(name: str, replicas: int, mode: Mode = Mode.REPLICATED) -> ServiceSpec:
    """A service of plain processes; its stack is what stands before the underscore."""
    task = TaskSpec(runtime=RuntimeKind.PROCESS, command=("sleep", "1000"))
    return ServiceSpec(
        name=name, stack=name.partition("_")[0], replicas=replicas, mode=mode, task=task
    )


def with_stack(view: View, spec: StackSpec) -> View:
    """The view with the stack deployed, and nothing made of it yet."""
    return then(view, PutStack(spec=spec))


def with_task(
    view: View, name: str, slot: int, node: str, state: TaskState, **status: object
) -> View:
    """The view with one more task of that service in that state; `TASKID` is `t{index}`."""
    row = view.service_named(name)
    assert row is not None, f"no service {name}"
    task_id = TaskId(f"t{view.index + 1}")
    create = CreateTask(
        task_id=task_id,
        service_id=ServiceId(row.id),
        service_version=row.version,
        slot=slot,
        revision=row.revision,
        node_id=NodeId(f"id{node}"),
        desired=DesiredState.RUNNING,
    )
    fields = {"state": state, "since_ms": SINCE_MS, "health": Health.NONE, **status}
    report = TaskReport(task_id=task_id, status=TaskStatus(**fields))  # type: ignore[arg-type]
    return then(view, create, ReportTasks(node_id=NodeId(f"id{node}"), reports=(report,)))


def running(view: View) -> View:
    """A second in the life of a cluster: the real controllers, and agents in a hurry.

    Tasks whose command is `crash` end as soon as they run.
    """
    view = evolve(view, clock_ms=view.clock_ms + 1_000)
    liveness = Liveness(silent_ms=dict.fromkeys(view.nodes, 0), observing_ms=10_000)
    decision = decide(view, None, liveness, LivenessPolicy(), view.clock_ms)
    for command in decision.commands:
        view = view if _is_stale(view, command) else then(view, command)
    for task in list(view.tasks.values()):
        if task.node_id is None or task.status.state.is_terminal:
            continue
        state = TaskState.RUNNING
        if task.desired > DesiredState.RUNNING:
            state = TaskState.SHUTDOWN
        elif task.desired is DesiredState.READY:
            state = TaskState.READY
        elif view.spec_of(task).task.command == ("crash",):
            state = TaskState.FAILED
        is_news = state is not task.status.state
        status = TaskStatus(
            state=state,
            message="it ended with exit code 3" if state is TaskState.FAILED else "",
            since_ms=view.clock_ms if is_news else task.status.since_ms,
        )
        report = TaskReport(task_id=task.id, status=status)
        view = then(view, ReportTasks(node_id=task.node_id, reports=(report,)))
    return view


def _is_stale(view: View, command: Simple) -> bool:
    """Whether the service has moved on since, as after an earlier command of the same pass."""
    if not isinstance(command, CreateTask):
        return False
    return view.services[command.service_id].version != command.service_version


def managers(*names: str, leader: str | None, term: int = 7) -> Sequence[Answer]:
    """How these managers answer when asked how they are."""
    return [
        Answer(
            name=name,
            address=f"{name}:4747",
            status=ManagerStatus(
                name=name,
                id=NodeId(f"id{name}"),
                raft_state="Leader" if name == leader else "Follower",
                leader=leader,
                term=Term(term),
                last_index=Index(12),
                commit_index=Index(11),
                applied_index=Index(11),
                heartbeat_ms=100,
                election_timeout_ms=1000,
            ),
        )
        for name in names
    ]
