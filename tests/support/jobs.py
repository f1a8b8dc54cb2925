"""A cluster of jobs alone: a view, a clock, and the real controllers until all is decided."""

from meshswarm.model.job import (
    Concurrency,
    FireVerdict,
    Job,
    JobSpec,
    RunPhase,
    Schedule,
)
from meshswarm.model.service import Mode, RestartCondition, RestartPolicy
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import TaskState, TaskStatus
from meshswarm.store.commands import (
    Batch,
    Command,
    PutStack,
    ReportTasks,
    TaskReport,
)
from meshswarm.store.job_commands import (
    DecideFire,
)
from meshswarm.store.view import View, build_view
from tests.support.builders import NOW_MS, commit, node, service_spec
from tests.support.deciding import decided, of_kind

MINUTE = 60_000
START_MS = NOW_MS - NOW_MS % MINUTE  # a full minute
ONCE = RestartPolicy(condition=RestartCondition.NONE)


def job_spec(name: str = "s_job", **fields: object) -> JobSpec:
    run = service_spec(name, mode=Mode.REPLICATED_JOB, stack="s", restart=ONCE)
    schedule = fields.pop("schedule", Schedule(cron="*/10 * * * *"))
    return JobSpec(name=name, stack="s", service=run, schedule=schedule, **fields)  # type: ignore[arg-type]


class JobCluster:
    """A view, a clock, and controllers that decide until they have nothing to add."""

    def __init__(self, *specs: JobSpec, at_ms: int = START_MS) -> None:
        self.now_ms = at_ms
        self.view = build_view(View(clock_ms=at_ms), nodes=(node("n1"),))
        self.fires: list[DecideFire] = []
        self.propose(PutStack(spec=StackSpec(name="s", services=(), jobs=specs)))
        self.control()

    def propose(self, command: Command) -> None:
        applied = commit(self.view, command, at_ms=self.now_ms)
        assert applied.outcome.error is None, applied.outcome.error
        self.view = applied.view

    def control(self) -> None:
        for _ in range(20):
            decision = decided(self.view, now_ms=self.now_ms)
            assert decision.refused == ()
            if not decision.commands:
                return
            self.fires += of_kind(decision, DecideFire)
            self.propose(Batch(commands=decision.commands))
        raise AssertionError("it never settles")

    def at(self, ms: int) -> None:
        """The controllers look at this instant, in ms after the start."""
        self.now_ms = START_MS + ms
        self.control()

    def end(self, state: TaskState = TaskState.COMPLETE) -> None:
        """What runs ends."""
        for one in self.view.tasks.values():
            if one.node_id is not None and not one.status.state.is_terminal:
                report = TaskReport(task_id=one.id, status=TaskStatus(state=state))
                self.propose(ReportTasks(node_id=one.node_id, reports=(report,)))
        self.control()

    def job(self, name: str = "s_job") -> Job:
        found = self.view.job_named(name)
        assert found is not None
        return found

    def runs(self, name: str = "s_job") -> list[tuple[int, RunPhase]]:
        return [(run.number, run.phase) for run in self.view.runs_of(self.job(name).id)]

    def verdicts(self) -> list[tuple[int, FireVerdict]]:
        return [((fire.scheduled_ms - START_MS) // MINUTE, fire.verdict) for fire in self.fires]


RUN, SKIP, QUEUE = FireVerdict.RUN, FireVerdict.SKIP, FireVerdict.QUEUE
RUNNING, COMPLETE, FAILED = RunPhase.RUNNING, RunPhase.COMPLETE, RunPhase.FAILED
FIRST = 10 - START_MS // MINUTE % 10
"""Minutes from the start to the first fire."""


def schedule_of(concurrency: Concurrency = Concurrency.FORBID, **fields: object) -> Schedule:
    return Schedule(cron="*/10 * * * *", concurrency=concurrency, **fields)  # type: ignore[arg-type]
