"""Builders for agents' tests: tasks, assignments, changes."""

from attrs import evolve

from meshswarm.ids import Index, NodeId, ServiceId, TaskId, Term
from meshswarm.model.service import RuntimeKind, TaskSpec
from meshswarm.model.task import DesiredState, Fencing, Task, TaskState, TaskStatus
from meshswarm.store.assignments import Assignment, AssignmentChange

NODE = NodeId("node-a")


def spec(*command: str, **changes: object) -> TaskSpec:
    made = TaskSpec(runtime=RuntimeKind.PROCESS, command=command or ("sleep", "60"))
    return evolve(made, **changes)  # type: ignore[arg-type]  # tests name real fields


def assignment(
    task_id: str = "t1",
    *,
    desired: DesiredState = DesiredState.RUNNING,
    state: TaskState = TaskState.ASSIGNED,
    slot: int = 1,
    fencing: int = 1,
    service: str = "web",
    runs: TaskSpec | None = None,
    **changes: object,
) -> Assignment:
    task = Task(
        id=TaskId(task_id),
        service_id=ServiceId(service),
        service_name=f"demo_{service}",
        slot=slot,
        revision=1,
        node_id=NODE,
        desired=desired,
        status=TaskStatus(state=state),
        fencing=Fencing(term=Term(1), index=Index(fencing)),
    )
    task = evolve(task, **changes)  # type: ignore[arg-type]  # tests name real fields
    return Assignment(task=task, spec=runs or spec())


def full(*assignments: Assignment) -> AssignmentChange:
    return AssignmentChange(full=True, index=Index(1), upserts=assignments)


def upsert(*assignments: Assignment) -> AssignmentChange:
    return AssignmentChange(full=False, index=Index(2), upserts=assignments)


def gone(*task_ids: str) -> AssignmentChange:
    return AssignmentChange(
        full=False, index=Index(2), removed=tuple(TaskId(task_id) for task_id in task_ids)
    )
