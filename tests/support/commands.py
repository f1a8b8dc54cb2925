"""Commands at random: for the most part such as make sense in a given view, some that do not."""

from collections.abc import Iterable
from typing import Any

from attrs import evolve
from hypothesis import strategies as st

from meshswarm.ids import JobId, NodeId, ServiceId, TaskId, Version
from meshswarm.model.file import FileKind, FileUse, Reload
from meshswarm.model.job import FireVerdict, JobSpec, RunPhase, RunReason, Schedule
from meshswarm.model.node import Availability, NodeDescription, NodeRole, NodeState
from meshswarm.model.rollout import RolloutPhase, RolloutReason
from meshswarm.model.service import Mode, ServiceSpec
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import DesiredState, Health, Reason, TaskState, TaskStatus
from meshswarm.store.commands import (
    AssignTask,
    Batch,
    Command,
    CreateTask,
    ExplainTask,
    ForgetTask,
    Group,
    LoseTask,
    PauseRollout,
    PutConfig,
    PutSecret,
    PutSecretsKey,
    PutService,
    PutStack,
    RegisterNode,
    RemoveConfig,
    RemoveSecret,
    RemoveService,
    RemoveStack,
    ReportTasks,
    RestartService,
    ResumeRollout,
    RevertService,
    RollBackService,
    ScaleService,
    SetDesired,
    SetNodeState,
    SetRollout,
    Simple,
    TaskReport,
    UpdateNode,
    UseNewest,
)
from meshswarm.store.job_commands import (
    CancelRun,
    DecideFire,
    ForgetRun,
    PauseJob,
    PlanFire,
    RemoveJob,
    ResumeJob,
    RunJob,
    SetRun,
)
from meshswarm.store.view import Id, View
from tests.support.builders import service_spec

NAMES = ("db", "web", "shop_web", "shop_db")
STACKS = ("shop", "other")

messages = st.sampled_from(["", "for a reason", "x" * 1_500])
statuses = st.builds(
    TaskStatus,
    state=st.sampled_from(TaskState),
    reason=st.sampled_from(Reason),
    message=messages,
    since_ms=st.integers(0, 10),
    exit_code=st.none() | st.integers(0, 255),
    health=st.sampled_from(Health),
)


uses = st.lists(
    st.builds(
        FileUse,
        kind=st.sampled_from(FileKind),
        source=st.sampled_from(["c1", "c2"]),
        target=st.just("/file"),
        version=st.sampled_from([Version(0), Version(0), Version(3)]),
    ),
    max_size=2,
).map(tuple)


@st.composite
def specs(draw: st.DrawFn, stack: str | None = None) -> ServiceSpec:
    """One of few services in one of few revisions."""
    return service_spec(
        draw(st.sampled_from(NAMES)),
        stack=stack if stack is not None else draw(st.none() | st.sampled_from(STACKS)),
        mode=draw(st.sampled_from(Mode)),
        replicas=draw(st.sampled_from([0, 1, 3, 100_001])),
        environment={"REVISION": draw(st.sampled_from("ab"))},
        files=draw(uses),
        reload=draw(st.none() | st.just(Reload(signal="SIGHUP"))),
    )


def _job(stack: str, cron: str) -> JobSpec:
    service = service_spec("job", mode=Mode.REPLICATED_JOB, stack=stack)
    return JobSpec(name="job", stack=stack, service=service, schedule=Schedule(cron=cron))


_JOBS = {stack: ((), (_job(stack, "* * * * *"),), (_job(stack, "0 0 * * *"),)) for stack in STACKS}


@st.composite
def stacks(draw: st.DrawFn) -> StackSpec:
    """A stack whose services may be named twice, or be another stack's."""
    name = draw(st.sampled_from(STACKS))
    of = draw(st.sampled_from([name, name, name, "other"]))
    return StackSpec(
        name=name,
        services=tuple(draw(st.lists(specs(of), max_size=3))),
        jobs=draw(st.sampled_from(_JOBS[of])),
        configs=draw(st.sampled_from([(), ("c1",)])),
        secrets=draw(st.sampled_from([(), ("c2",)])),
    )


# Ids are drawn as places, "#0" .. "#5", and `aimed` makes rows' ids of them: strategies that are
# built once are an order of magnitude faster than ones built for each view.
places = st.sampled_from([f"#{place}" for place in range(6)])
nodes, services, tasks = places.map(NodeId), places.map(ServiceId), places.map(TaskId)
jobs = places.map(JobId)
labels = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"))
reports = st.lists(st.builds(TaskReport, task_id=tasks, status=statuses), max_size=3).map(tuple)

simple: st.SearchStrategy[Simple] = st.one_of(
    st.builds(PutStack, spec=stacks()),
    st.builds(RemoveStack, name=st.sampled_from(STACKS)),
    st.builds(PutService, spec=specs(), version=st.none() | st.sampled_from([Version(1)])),
    st.builds(ScaleService, service_id=services, replicas=st.integers(-1, 3)),
    st.builds(RemoveService, service_id=services),
    st.builds(
        UpdateNode,
        node_id=nodes,
        availability=st.none() | st.sampled_from(Availability),
        labels=st.none() | labels,
    ),
    st.builds(
        PutConfig,
        name=st.sampled_from(["c1", "c2"]),
        data=st.sampled_from([b"", b"x", bytes(100)]),
        labels=labels,
        version=st.none() | st.sampled_from([Version(1)]),
    ),
    st.builds(RemoveConfig, name=st.sampled_from(["c1", "c2"])),
    st.builds(
        PutSecret,
        name=st.sampled_from(["c1", "c2"]),
        sealed=st.sampled_from([b"x", bytes(100)]),
        digest=st.sampled_from([b"1", b"2"]),
        key_id=st.sampled_from(["k1", "k1", "k2"]),
        labels=labels,
        version=st.none() | st.sampled_from([Version(0), Version(1)]),
    ),
    st.builds(RemoveSecret, name=st.sampled_from(["c1", "c2"])),
    st.builds(UseNewest, kind=st.sampled_from(FileKind), name=st.sampled_from(["c1", "c2"])),
    st.builds(
        PutSecretsKey,
        key_id=st.sampled_from(["k1", "k1", "k2"]),
        sealed_for=st.dictionaries(st.sampled_from("ab").map(NodeId), st.just(b"sealed")),
    ),
    st.builds(
        RegisterNode,
        node_id=st.sampled_from(["id-1", "id-2"]).map(NodeId),
        name=st.sampled_from(["n1", "n2"]),
        role=st.sampled_from(NodeRole),
        address=st.just("127.0.0.1:4747"),
        incarnation=st.integers(0, 2),
        labels=labels,
        description=st.builds(NodeDescription, hostname=st.sampled_from("ab")),
    ),
    st.builds(ReportTasks, node_id=nodes, reports=reports),
    st.builds(SetNodeState, node_id=nodes, state=st.sampled_from(NodeState), message=messages),
    st.builds(
        CreateTask,
        task_id=st.sampled_from("tuvw").map(TaskId),
        service_id=services,
        service_version=st.sampled_from([Version(1), Version(0)]),
        slot=st.integers(0, 2),
        revision=st.integers(1, 2),
        node_id=st.none() | nodes,
        desired=st.sampled_from(DesiredState),
    ),
    st.builds(AssignTask, task_id=tasks, node_id=nodes),
    st.builds(ExplainTask, task_id=tasks, reason=st.sampled_from(Reason), message=messages),
    st.builds(SetDesired, task_id=tasks, desired=st.sampled_from(DesiredState)),
    st.builds(LoseTask, task_id=tasks, message=messages),
    st.builds(ForgetTask, task_id=tasks),
    st.builds(PauseRollout, service_id=services),
    st.builds(ResumeRollout, service_id=services, step=st.booleans()),
    st.builds(RollBackService, service_id=services, revision=st.none() | st.integers(0, 3)),
    st.builds(RestartService, service_id=services),
    st.builds(
        SetRollout,
        service_id=services,
        edition=st.integers(1, 3),
        phase=st.sampled_from(RolloutPhase),
        reason=st.sampled_from(RolloutReason),
        message=messages,
        well=st.integers(0, 3),
        progressed_at_ms=st.integers(0, 10),
        not_before_ms=st.integers(0, 10),
        failed=st.lists(st.sampled_from("12"), unique=True).map(lambda found: tuple(sorted(found))),
        slots_left=st.none() | st.integers(0, 3),
    ),
    st.builds(
        RevertService,
        service_id=services,
        edition=st.integers(1, 3),
        reason=st.sampled_from(RolloutReason),
        message=messages,
    ),
    st.builds(
        SetRun,
        service_id=services,
        edition=st.integers(1, 3),
        phase=st.sampled_from(RunPhase),
        reason=st.sampled_from(RunReason),
        message=messages,
        completed=st.integers(0, 3),
        failed=st.integers(0, 3),
    ),
    st.builds(RunJob, job_id=jobs),
    st.builds(PauseJob, job_id=jobs),
    st.builds(ResumeJob, job_id=jobs),
    st.builds(CancelRun, service_id=services),
    st.builds(RemoveJob, job_id=jobs),
    st.builds(
        PlanFire,
        job_id=jobs,
        edition=st.integers(1, 3),
        next_fire_ms=st.none() | st.integers(0, 2**63),
    ),
    st.builds(
        DecideFire,
        job_id=jobs,
        edition=st.integers(1, 3),
        scheduled_ms=st.integers(0, 2**63),
        verdict=st.sampled_from(FireVerdict),
        message=messages,
    ),
    st.builds(ForgetRun, service_id=services),
)
commands: st.SearchStrategy[Command] = st.deferred(
    lambda: grouped | st.builds(Group, commands=st.lists(grouped, max_size=3).map(tuple))
)
grouped: st.SearchStrategy[Simple | Batch] = simple | st.builds(
    Batch, commands=st.lists(simple, max_size=5).map(tuple), cause=st.text(max_size=5)
)


def aimed(command: Command, view: View) -> Command:
    """The command with rows' ids in the view instead of places; some still aim at nothing."""
    if isinstance(command, Group):
        return evolve(command, commands=tuple(_aimed_batch(one, view) for one in command.commands))
    return _aimed_batch(command, view)


def _aimed_batch(command: Simple | Batch, view: View) -> Simple | Batch:
    if isinstance(command, Batch):
        return evolve(command, commands=tuple(_aimed(one, view) for one in command.commands))
    return _aimed(command, view)


def _aimed(command: Simple, view: View) -> Simple:
    fields: dict[str, Any] = {}
    for name, table in (
        ("node_id", view.nodes),
        ("service_id", view.services),
        ("job_id", view.jobs),
        ("task_id", view.tasks),
    ):
        if str(getattr(command, name, "")).startswith("#"):
            fields[name] = _row_id(getattr(command, name), table)
    if isinstance(command, ReportTasks):
        fields["reports"] = tuple(
            evolve(report, task_id=_row_id(report.task_id, view.tasks))
            for report in command.reports
        )
    version = Version(1)
    if isinstance(command, CreateTask) and command.service_version == version:
        service = view.services.get(fields["service_id"])
        fields["service_version"] = service.version if service else version
    if isinstance(command, PutService) and command.version == version:
        named = view.service_named(command.spec.name)
        fields["version"] = named.version if named else version
    if isinstance(command, PutConfig) and command.version == version:
        present = view.configs.get(command.name)
        fields["version"] = present.version if present else version
    return evolve(command, **fields)


def _row_id(place: Id, table: Iterable[Id]) -> Id:
    """The id at that place of the table, counted round; the last place aims at nothing."""
    ids = sorted(table)
    return ids[int(place[1:]) % len(ids)] if ids and place != "#5" else place
