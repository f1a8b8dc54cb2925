"""A task: one shot at running one replica, bound to a node for life, in a numbered slot.

States only move forward; a task is replaced, never revived. `desired` and `node_id` are written by
controllers, `status` by the task's agent (controllers write it only where no agent can: pending
explanations, and LOST for the tasks of a dead node).
"""

from enum import Enum, IntEnum

from attrs import field, frozen

from meshswarm.ids import Index, NodeId, ServiceId, TaskId, Term, Version
from meshswarm.model.resources import DeviceGrant


class TaskState(IntEnum):
    """Observed state, in the only order it can take; gaps leave room for states between."""

    NEW = 0
    PENDING = 64
    """Waits for a node; `reason` and `message` say why."""
    ASSIGNED = 128
    """Has a node, whose agent has not answered yet."""
    ACCEPTED = 192
    PREPARING = 256
    """Pulling the image, creating the container."""
    READY = 320
    """Created, waits for desired RUNNING."""
    STARTING = 384
    RUNNING = 448
    COMPLETE = 512
    """Ended by itself with exit code 0."""
    SHUTDOWN = 576
    """Ended because it was asked to."""
    FAILED = 640
    """Started, and ended by itself with another exit code, or unhealthy."""
    REJECTED = 704
    """Could not be started at all."""
    LOST = 768
    """Its node went down; it may still run there until the node returns."""

    @property
    def label(self) -> str:
        """The state as users see it: its name in lower case."""
        return self.name.lower()

    @property
    def is_terminal(self) -> bool:
        """Whether nothing will ever run under this task again."""
        return self >= TaskState.COMPLETE


class DesiredState(IntEnum):
    """How far the agent may take the task; only grows."""

    READY = 320
    """Pull and create, do not start yet."""
    RUNNING = 448
    SHUTDOWN = 576
    """Stop it; the row stays as history."""
    REMOVE = 832
    """Stop it, then forget the row."""

    @property
    def label(self) -> str:
        """The state as users see it: its name in lower case."""
        return self.name.lower()


class Health(Enum):
    """What the health check says of a running task."""

    NONE = "none"
    """No health check: running is as healthy as it gets."""
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    NOT_READY = "not_ready"
    """It lives, and can take no work now; it is not replaced for that."""


class Reason(Enum):
    """Why a task is in its state, for programs; `TaskStatus.message` says it for people."""

    NONE = ""
    NO_SUITABLE_NODE = "no_suitable_node"
    BACKOFF = "backoff"
    WAITS_FOR_PREDECESSOR = "waits_for_predecessor"
    WAITS_FOR_DEPENDENCY = "waits_for_dependency"
    WAITS_FOR_ROOM = "waits_for_room"
    """Tasks of smaller priority were asked to make way for it."""
    PREEMPTED = "preempted"
    """It made way for a task of greater priority."""
    PULLING_IMAGE = "pulling_image"
    IMAGE_NOT_FOUND = "image_not_found"
    PULL_FAILED = "pull_failed"
    COMMAND_NOT_FOUND = "command_not_found"
    PORT_IN_USE = "port_in_use"
    MOUNT_FAILED = "mount_failed"
    DISK_FULL = "disk_full"
    NETWORK_FAILED = "network_failed"
    ADDRESS_POOL_EXHAUSTED = "address_pool_exhausted"
    """The node's engine has no address range left for another network."""
    FILES_UNAVAILABLE = "files_unavailable"
    """No manager gave the node the content of a config or secret."""
    CREATE_FAILED = "create_failed"
    START_FAILED = "start_failed"
    STOP_FAILED = "stop_failed"
    RUNTIME_UNAVAILABLE = "runtime_unavailable"
    COMPLETED = "completed"
    EXITED = "exited"
    SIGNALLED = "signalled"
    OUT_OF_MEMORY = "out_of_memory"
    UNHEALTHY = "unhealthy"
    NOT_READY = "not_ready"
    """It runs, and its readiness probe says that it can take no work."""
    FENCED = "fenced"
    """Its node's agent had no manager for so long that it stopped it (`stop_after`)."""
    VANISHED = "vanished"
    """The agent came back and its process or container was gone."""
    STOPPED = "stopped"
    NODE_DOWN = "node_down"
    NODE_RETURNED = "node_returned"
    """The node came back and stopped what was no longer its own."""


@frozen(kw_only=True)
class TaskStatus:
    """What is known of a task's life; written as a whole, by one writer."""

    state: TaskState = TaskState.NEW
    reason: Reason = Reason.NONE
    message: str = ""
    """One sentence for people; at most 1,000 characters."""
    since_ms: int = 0
    """When this state began, by the writer's clock."""
    runtime_id: str = ""
    """Container id, or the process id as text."""
    exit_code: int | None = None
    health: Health = Health.NONE
    started_at_ms: int | None = None
    """When it began to run; None if it never did."""
    published: tuple[str, ...] = ()
    """Ports as bound on the node: `ADDRESS:PUBLISHED->TARGET/PROTOCOL`."""


@frozen(kw_only=True, order=True)
class Fencing:
    """Where the log bound the task to its node; a later binding of the slot has a larger one."""

    term: Term = Term(0)
    index: Index = Index(0)


@frozen(kw_only=True)
class Task:
    """A task in the store."""

    id: TaskId
    service_id: ServiceId
    service_name: str
    stack: str | None = None
    slot: int
    """1, 2, ... of a replicated service; 0 for a global one, where the node is the slot."""
    revision: int
    """Which `Revision` of the service it runs."""
    node_id: NodeId | None = None
    devices: tuple[DeviceGrant, ...] = ()
    """What it has of its node's devices, from the moment it has the node."""
    desired: DesiredState = DesiredState.RUNNING
    ending: Reason = Reason.NONE
    """Why controllers ask it to stop, where that is not plain from its service."""
    leaves: bool = False
    """Whether it is to be replaced elsewhere, where its node will be better used without it."""
    status: TaskStatus = TaskStatus()
    fencing: Fencing = Fencing()
    attempt: int = 0
    """How many replacements in quick succession led to this one; 0 is the first of its slot."""
    not_before_ms: int = 0
    """Not to be started before this instant (backoff), by the leader's clock."""
    created_at_ms: int = 0
    version: Version = field(default=Version(0))

    @property
    def name(self) -> str:
        """`STACK_SERVICE.SLOT.TASKID`, also its container's name; a global slot is its node."""
        slot = self.slot or self.node_id or 0
        return f"{self.service_name}.{slot}.{self.id}"

    @property
    def is_live(self) -> bool:
        """Whether it is meant to run and may still do so."""
        return self.desired <= DesiredState.RUNNING and self.status.state < TaskState.COMPLETE

    @property
    def is_healthy(self) -> bool:
        """Whether it runs and no health check says otherwise."""
        return self.status.state == TaskState.RUNNING and self.status.health in (
            Health.NONE,
            Health.HEALTHY,
        )
