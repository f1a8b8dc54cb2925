"""A cluster with one service that is rolled out, and whose tasks crash where a test says so."""

from collections.abc import Callable
from typing import Any

from meshswarm.model.node import Node
from meshswarm.model.rollout import Rollout, RolloutPhase, UpdatePolicy
from meshswarm.model.service import Mode, RestartPolicy, Service
from meshswarm.model.task import Health, Task, TaskState
from meshswarm.store.commands import Command, PutService
from tests.support.builders import node, service_spec
from tests.support.model_world import ModelWorld

NODES = [node(name) for name in ("n1", "n2", "n3")]


class Shop(ModelWorld):
    """A cluster with one service, `web`, of which some versions crash as soon as they run."""

    def __init__(self, replicas: int = 3, nodes: list[Node] = NODES, **policy: Any) -> None:
        super().__init__(*nodes)
        self.replicas = replicas
        self.update, self.rollback = UpdatePolicy(**policy), UpdatePolicy()
        self.mode, self.restart = Mode.REPLICATED, RestartPolicy()
        self.bad: set[str] = set()
        """What the command of crashing tasks is."""
        self.never_well: set[str] = set()
        """What that of tasks is whose check never says anything."""

    def deploy(self, version: str, **fields: Any) -> None:
        """Put the service in another version."""
        spec = service_spec(
            "web",
            replicas=self.replicas,
            mode=self.mode,
            update=self.update,
            rollback=self.rollback,
            command=(version,),
            restart=self.restart,
            **fields,
        )
        assert self.propose(PutService(spec=spec)).error is None

    def do(self, command: Command) -> None:
        """Have a user's command carried out."""
        assert self.propose(command).error is None

    @property
    def web(self) -> Service:
        """The service."""
        [web] = self.view.sorted_services()
        return web

    @property
    def rollout(self) -> Rollout:
        """Its rollout."""
        return self.view.rollouts[self.web.id]

    def running(self) -> list[int]:
        """The revision of each healthy live task."""
        tasks = self.view.tasks_of(self.web.id)
        return sorted(task.revision for task in tasks if task.is_live and task.is_healthy)

    def of_revision(self, number: int) -> list[Task]:
        """All its tasks of this revision."""
        return [task for task in self.view.tasks.values() if task.revision == number]

    def until_running(self, *revisions: int) -> None:
        """Let time pass until tasks of just these revisions are healthy."""
        self.until(lambda: self.running() == sorted(revisions))

    def until_well(self, slots: int) -> None:
        """Let time pass until so many slots count as well."""
        self.until(lambda: self.rollout.well == slots)

    def until_begun(self, slots: int) -> None:
        """Let time pass until so many tasks have revision 2."""
        self.until(lambda: len(self.of_revision(2)) == slots)

    def until(self, holds: Callable[[], bool]) -> None:
        """Let agents work and time pass until this holds."""
        for _ in range(3_000):
            self.control()
            if holds():
                return
            if not self._agents():
                assert self.wake_at_ms is not None, "nothing will happen any more"
                self.now_ms = max(self.now_ms + 1, self.wake_at_ms)
        raise AssertionError(f"it never came: {self.view.rollouts}")

    def _phase(self) -> RolloutPhase | None:
        found = self.view.rollouts.get(self.web.id)
        return found.phase if found else None

    def _agents(self) -> bool:
        """One step of every agent; crashing tasks crash."""
        movable = self.movable()
        for task in movable:
            self.step(task)
        crashing = [task for task in self.view.tasks.values() if self._crashes(task)]
        for task in crashing:
            self.report(task, TaskState.FAILED, message="it ended with exit code 3")
        return bool(movable or crashing)

    def step(self, task: Task) -> None:
        """The agent takes its task one state on; the check of some then says nothing."""
        super().step(task)
        after = self.view.tasks.get(task.id)
        if after is not None and self._is_one_of(after, self.never_well):
            self.report(after, TaskState.RUNNING, health=Health.STARTING)

    def _crashes(self, task: Task) -> bool:
        return self._is_one_of(task, self.bad)

    def _is_one_of(self, task: Task, versions: set[str]) -> bool:
        command = self.view.spec_of(task).task.command
        return task.status.state is TaskState.RUNNING and bool(command and command[0] in versions)

    def is_at(self, *phases: RolloutPhase) -> bool:
        """Whether the rollout is in one of these phases."""
        return self._phase() in phases

    def ends(self) -> None:
        """Let the rollout come to rest: over, or paused."""
        self.until(lambda: self._phase() is None or not self.rollout.phase.is_active)

    def begins(self) -> None:
        """Let version `a` be deployed and run."""
        self.deploy("a")
        self.settle()
