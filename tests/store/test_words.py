"""Commands in words, one line each."""

import pytest

from meshswarm.ids import JobId, NodeId, ServiceId, TaskId, Version
from meshswarm.model.file import FileKind
from meshswarm.model.job import FireVerdict, JobSpec
from meshswarm.model.node import Availability, NodeDescription, NodeRole, NodeState
from meshswarm.model.service import Mode
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import DesiredState, Reason, TaskState, TaskStatus
from meshswarm.store.commands import (
    AssignTask,
    Batch,
    Command,
    CreateTask,
    ExplainTask,
    ForgetTask,
    Group,
    LoseTask,
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
    ScaleService,
    SetDesired,
    SetNodeState,
    TaskReport,
    UpdateNode,
    UseNewest,
)
from meshswarm.store.job_commands import (
    CancelRun,
    DecideFire,
    PauseJob,
    PlanFire,
    RemoveJob,
    ResumeJob,
    RunJob,
)
from meshswarm.store.words import MAX_LENGTH, in_words
from tests.support.builders import node, service, service_spec, task, view

WEB, N1 = service("web"), node("n1")
KNOWN = view([N1], [WEB], [task(WEB, 2, N1, id="t2")])
T2 = TaskId("t2")
CREATE = CreateTask(
    task_id=TaskId("k3f"),
    service_id=WEB.id,
    service_version=Version(1),
    slot=2,
    revision=4,
    node_id=N1.id,
    desired=DesiredState.RUNNING,
)
REGISTER = RegisterNode(
    node_id=NodeId("x1"),
    name="n9",
    role=NodeRole.WORKER,
    address="",
    incarnation=1,
    labels={},
    description=NodeDescription(),
)
FAILED = TaskReport(task_id=T2, status=TaskStatus(state=TaskState.FAILED, message="exit code 3"))
DEMO = StackSpec(
    name="demo",
    services=(service_spec("demo_a", stack="demo"), service_spec("demo_b", stack="demo")),
)


WITH_JOB = StackSpec(
    name="demo",
    services=(),
    jobs=(JobSpec(name="demo_j", stack="demo", service=service_spec("demo_j", stack="demo")),),
)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (PutStack(spec=DEMO), "put stack demo: 2 services"),
        (PutStack(spec=WITH_JOB), "put stack demo: 0 services and 1 job"),
        (RunJob(job_id=JobId("j")), "run job j"),
        (PauseJob(job_id=JobId("j")), "pause job j"),
        (ResumeJob(job_id=JobId("j")), "resume job j"),
        (RemoveJob(job_id=JobId("j")), "remove job j"),
        (CancelRun(service_id=ServiceId("s")), "cancel the run of s"),
        (PlanFire(job_id=JobId("j"), edition=1, next_fire_ms=None), "job j fires at no time"),
        (
            PlanFire(job_id=JobId("j"), edition=1, next_fire_ms=60_000),
            "job j fires at 1970-01-01T00:01:00Z",
        ),
        (
            DecideFire(
                job_id=JobId("j"),
                edition=1,
                scheduled_ms=60_000,
                verdict=FireVerdict.SKIP,
                message="run 1 was still under way",
            ),
            "skip the fire of j of 1970-01-01T00:01:00Z (run 1 was still under way)",
        ),
        (RemoveStack(name="demo"), "remove stack demo"),
        (PutConfig(name="motd", data=b"hello"), "put config motd: 5 bytes"),
        (RemoveConfig(name="motd"), "remove config motd"),
        (PutSecret(name="db", sealed=b"x", digest=b"y", key_id="k"), "put secret db"),
        (RemoveSecret(name="db"), "remove secret db"),
        (
            UseNewest(kind=FileKind.CONFIG, name="motd"),
            "give services the newest content of config motd",
        ),
        (
            PutSecretsKey(key_id="k", sealed_for={NodeId("n1"): b"x"}),
            "seal the key of secrets for 1 manager",
        ),
        (
            Group(commands=(RemoveConfig(name="a"),) * 5),
            "remove config a; remove config a; remove config a; and 2 more",
        ),
        (PutService(spec=service_spec("web")), "put service web: 1 replica"),
        (PutService(spec=service_spec("a", mode=Mode.GLOBAL)), "put service a: global"),
        (ScaleService(service_id=WEB.id, replicas=3), "scale service web to 3"),
        (RemoveService(service_id=ServiceId("gone")), "remove service gone"),
        (
            UpdateNode(node_id=N1.id, availability=Availability.DRAIN, labels={"a": "b"}),
            "update node n1: drain; labels a=b",
        ),
        (REGISTER, "register worker n9 (x1)"),
        (
            ReportTasks(node_id=N1.id, reports=(FAILED,)),
            "report from n1: web.2 (t2) failed (exit code 3)",
        ),
        (
            SetNodeState(node_id=N1.id, state=NodeState.DOWN, message="silent"),
            "node n1 down (silent)",
        ),
        (CREATE, "create task web.2 revision 4 (k3f) on n1"),
        (AssignTask(task_id=T2, node_id=N1.id), "assign task web.2 (t2) to n1"),
        (
            ExplainTask(task_id=T2, reason=Reason.NO_SUITABLE_NODE, message="no\nnode"),
            "task web.2 (t2) waits (no node)",
        ),
        (
            SetDesired(task_id=T2, desired=DesiredState.SHUTDOWN),
            "task web.2 (t2) desired shutdown",
        ),
        (
            LoseTask(task_id=T2, message="node n1 is down"),
            "lose task web.2 (t2) (node n1 is down)",
        ),
        (ForgetTask(task_id=TaskId("gone")), "forget task gone"),
        (
            Batch(commands=(CREATE,), cause="web"),
            "web: create task web.2 revision 4 (k3f) on n1",
        ),
        (
            Batch(commands=(CREATE,) * 4 + (ForgetTask(task_id=T2),), cause="node n1 down; web"),
            "node n1 down; web: 4 x create task, 1 x forget task",
        ),
        (Batch(commands=()), "nothing"),
    ],
)
def test_each_command_has_words(command: Command, words: str) -> None:
    assert words == in_words(command, KNOWN)


def test_what_has_no_name_is_told_by_its_id() -> None:
    assert in_words(CREATE) == "create task id-web.2 revision 4 (k3f) on id-n1"


def test_long_lines_are_cut() -> None:
    words = in_words(LoseTask(task_id=T2, message="x" * 500))
    assert MAX_LENGTH == len(words)
    assert words.endswith("…")
