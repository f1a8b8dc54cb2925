"""Everything that can change the cluster: one frozen class a command.

Who proposes what (one writer per field): users PutStack .. UseNewest; managers PutSecretsKey;
controllers Batch and what it holds; agents RegisterNode and ReportTasks. `in_words` says a command
in one line, for `cluster log`. To add a command: ARCHITECTURE.md, "add a command".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import Factory, field, frozen

from meshswarm import codec, columns
from meshswarm.ids import NodeId, ServiceId, TaskId, Version
from meshswarm.making import maker
from meshswarm.model.file import FileKind
from meshswarm.model.node import Availability, NodeDescription, NodeRole, NodeState
from meshswarm.model.resources import DeviceGrant
from meshswarm.model.rollout import RolloutPhase, RolloutReason
from meshswarm.model.service import ServiceSpec
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import DesiredState, Reason, TaskStatus
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

# --- users ------------------------------------------------------------------------------------


@frozen(kw_only=True)
class PutStack:
    """Make the stack's services exactly these: create, update, and remove what vanished."""

    spec: StackSpec


@frozen(kw_only=True)
class RemoveStack:
    """Remove the stack and all its services."""

    name: str


@frozen(kw_only=True)
class PutService:
    """Create the service, or update it; `version`, if given, must be its present one."""

    spec: ServiceSpec
    version: Version | None = None


@frozen(kw_only=True)
class ScaleService:
    """Set the replica count, or a job's completions; refused where nodes are the slots."""

    service_id: ServiceId
    replicas: int


@frozen(kw_only=True)
class RemoveService:
    """Remove the service; its tasks are stopped, then forgotten."""

    service_id: ServiceId


@frozen(kw_only=True)
class PauseRollout:
    """Let no further slot of the service have its turn; refused if no rollout is under way."""

    service_id: ServiceId


@frozen(kw_only=True)
class ResumeRollout:
    """Go on with a rollout, to its end or for one `step` of `parallelism` slots."""

    service_id: ServiceId
    step: bool = False


@frozen(kw_only=True)
class RollBackService:
    """Make an earlier revision current again; None: the one before the last rollout."""

    service_id: ServiceId
    revision: int | None = None


@frozen(kw_only=True)
class RestartService:
    """Replace every task of the service by one like it, as an update does."""

    service_id: ServiceId


@frozen(kw_only=True)
class UpdateNode:
    """Set what users decide of a node; None leaves as it is."""

    node_id: NodeId
    availability: Availability | None = None
    drain_s: float = 0.0
    """With `availability` drain: after so long, tasks that are still there go regardless; 0: they
    never do."""
    labels: Mapping[str, str] | None = None


@frozen(kw_only=True)
class MoveTasks:
    """Have these tasks replaced elsewhere, or no longer (`leaves`); passes over those that are no
    longer live, or have no node."""

    task_ids: tuple[TaskId, ...]
    leaves: bool = True


@frozen(kw_only=True, weakref_slot=False)
class PutConfig:
    """Create the config, or replace its content; `version`, if given, must be its present one, and
    0 means that there must be none. Services that use it keep the content that they have.
    """

    name: str
    data: bytes
    labels: Mapping[str, str] = Factory(dict)
    version: Version | None = None


_put_config = maker(PutConfig)
"""Of name, data, labels and version."""


def _put_config_of(plain: Any, _: object) -> PutConfig:
    """The command that clients send by the thousand, in half the time of the general way."""
    name, data = plain["name"], plain["data"]
    if type(name) is not str or type(data) is not bytes:
        raise TypeError("a config's name is a text and its data are bytes")
    if len(plain) == 2:
        return _put_config(name, data, {}, None)
    if unknown := plain.keys() - {"name", "data", "labels", "version"}:
        raise KeyError(f"no attributes of PutConfig: {unknown!r:.100}")
    return PutConfig(
        name=name,
        data=data,
        labels=codec.structure(plain.get("labels", {}), Mapping[str, str]),
        version=codec.structure(plain.get("version"), Version | None),
    )


codec.structure_by(PutConfig, _put_config_of)

_PUT_CONFIG = codec.map_head(3) + b"".join(map(codec.text, (codec.TAG, "PutConfig", "name")))
_DATA = codec.text("data")


def _put_config_bytes(command: PutConfig) -> bytes:
    """The same the other way round, of a name and its content alone."""
    name, data = codec.text(command.name), command.data
    return b"".join((_PUT_CONFIG, name, _DATA, codec.bytes_head(len(data)), data))


def _put_config_in(encoded: bytes) -> PutConfig | None:
    """The command that was written so, in a third of the time of the general way; None: these
    bytes are another one's, or a long name or content is in them, or something is wrong with them.
    """
    if not encoded.startswith(_PUT_CONFIG):
        return None
    try:
        size, start = encoded[_NAME_AT] - codec.TEXT, _NAME_AT + 1
        end = start + size
        found = codec.short_bytes(encoded, end + len(_DATA))
        if not 0 <= size < codec.SHORT or found is None or not encoded.startswith(_DATA, end):
            return None
        return _put_config(encoded[start:end].decode(), found, {}, None)
    except (IndexError, UnicodeDecodeError):
        return None


_NAME_AT = len(_PUT_CONFIG)


@frozen(kw_only=True)
class RemoveConfig:
    """Remove the config; refused while a service uses it."""

    name: str


@frozen(kw_only=True)
class PutSecret:
    """What `PutConfig` is for configs; whoever proposes it had a manager seal the content."""

    name: str
    sealed: bytes = field(repr=False)
    digest: bytes
    key_id: str
    labels: Mapping[str, str] = Factory(dict)
    version: Version | None = None


@frozen(kw_only=True)
class RemoveSecret:
    """Remove the secret; refused while a service uses it."""

    name: str


@frozen(kw_only=True)
class UseNewest:
    """Give every service that uses this config or secret its newest content."""

    kind: FileKind
    name: str


@frozen(kw_only=True)
class PutSecretsKey:
    """A manager makes the key for secrets, or seals it for further managers; the first one stays.

    Refused if there is another key, or the copies of a manager that has one would change.
    """

    key_id: str
    sealed_for: Mapping[NodeId, bytes] = field(repr=False)


# --- agents -----------------------------------------------------------------------------------


@frozen(kw_only=True)
class RegisterNode:
    """A node's agent says who it is and what it found; creates or refreshes the node's row."""

    node_id: NodeId
    name: str
    role: NodeRole
    address: str
    incarnation: int
    labels: Mapping[str, str]
    """From its settings; only for a new row, later ones are the user's."""
    description: NodeDescription


@frozen(kw_only=True)
class TaskReport:
    """One task's status as its agent sees it."""

    task_id: TaskId
    status: TaskStatus


@frozen(kw_only=True)
class ReportTasks:
    """Observed states of a node's tasks; states that would move backward are passed over."""

    node_id: NodeId
    reports: tuple[TaskReport, ...]


# --- controllers ------------------------------------------------------------------------------


@frozen(kw_only=True)
class SetNodeState:
    """The leader's verdict on a node."""

    node_id: NodeId
    state: NodeState
    message: str
    is_held: bool = False
    """Whether the brake holds the verdict back, or held it back before this one."""
    trusted_at_ms: int | None = None
    """From when on it may have new tasks; None leaves that as it is."""


@frozen(kw_only=True)
class CreateTask:
    """A new task in a slot, usually with its node already chosen.

    Refused when the service is gone, has another version, or the id exists.
    """

    task_id: TaskId
    service_id: ServiceId
    service_version: Version
    slot: int
    revision: int
    node_id: NodeId | None
    desired: DesiredState
    attempt: int = 0
    not_before_ms: int = 0
    reason: Reason = Reason.NONE
    message: str = ""
    devices: tuple[DeviceGrant, ...] = ()


@frozen(kw_only=True)
class AssignTask:
    """Bind a pending task to a node, for life; refused if it already has one."""

    task_id: TaskId
    node_id: NodeId
    devices: tuple[DeviceGrant, ...] = ()


@frozen(kw_only=True)
class ExplainTask:
    """Say why a task is still pending; refused once it has a node."""

    task_id: TaskId
    reason: Reason
    message: str


@frozen(kw_only=True)
class SetDesired:
    """Let the agent take the task further; only forward."""

    task_id: TaskId
    desired: DesiredState
    reason: Reason = Reason.NONE
    """Why it is to stop, where that is not plain from its service."""


@frozen(kw_only=True)
class LoseTask:
    """The task's node is down: nobody can say whether it runs."""

    task_id: TaskId
    message: str


@frozen(kw_only=True)
class ForgetTask:
    """Delete the row of a task that is over (history limit, or its service is gone)."""

    task_id: TaskId


@frozen(kw_only=True)
class SetRollout:
    """How far a service's rollout is; refused when it is at another edition by now."""

    service_id: ServiceId
    edition: int
    phase: RolloutPhase
    reason: RolloutReason
    message: str
    well: int
    progressed_at_ms: int
    not_before_ms: int
    failed: tuple[str, ...]
    slots_left: int | None


@frozen(kw_only=True)
class RevertService:
    """Too much of the rollout failed: back to its stable revision, as the service says."""

    service_id: ServiceId
    edition: int
    reason: RolloutReason
    message: str


Simple = (
    PutStack
    | RemoveStack
    | PutService
    | ScaleService
    | RemoveService
    | UpdateNode
    | MoveTasks
    | PutConfig
    | RemoveConfig
    | PutSecret
    | RemoveSecret
    | UseNewest
    | PutSecretsKey
    | RegisterNode
    | ReportTasks
    | SetNodeState
    | CreateTask
    | AssignTask
    | ExplainTask
    | SetDesired
    | LoseTask
    | ForgetTask
    | PauseRollout
    | ResumeRollout
    | RollBackService
    | RestartService
    | SetRollout
    | RevertService
    | SetRun
    | RunJob
    | PauseJob
    | ResumeJob
    | PlanFire
    | DecideFire
    | ForgetRun
    | CancelRun
    | RemoveJob
)
codec.register_union(Simple)
columns.register_sequence(Simple)


@frozen(kw_only=True)
class Batch:
    """Commands applied in order as one entry, each refused or carried out on its own.

    What one pass of the control loop decides; `cause` says in words what set it off.
    """

    commands: Sequence[Simple]
    cause: str = ""


@frozen(kw_only=True)
class Group:
    """Commands of one proposer that travel, commit and are applied together.

    What a client had waiting when it could send: one request of it, one entry of the log, and an
    outcome for each (`Outcome.parts`), refused or carried out on its own.
    """

    commands: Sequence[Simple | Batch]


codec.register_union(Simple | Batch)
columns.register_sequence(Simple | Batch)
Command = Simple | Batch | Group
codec.register_union(Command)


def encode_command(command: Command) -> bytes:
    """The bytes of a command, as a log entry holds them; equal commands may differ in them."""
    if type(command) is PutConfig and not command.labels and command.version is None:
        return _put_config_bytes(command)
    return codec.dumps_in_order(codec.unstructure(command, Command))


def group_of(commands: Sequence[bytes]) -> bytes:
    """The bytes of the `Group` of these commands, each encoded already; no group in it."""
    return b"".join((_GROUP_HEAD, codec.array_head(len(commands)), *commands))


_GROUP_HEAD = b"\xa2" + codec.dumps(codec.TAG) + codec.dumps("Group") + codec.dumps("commands")
"""A CBOR map of two keys, as far as the second one's value."""


def decode_command(data: bytes) -> Command:
    """The command that these bytes hold; raises `Undecodable`, also for one this version lacks."""
    if (command := _put_config_in(data)) is not None:
        return command
    return codec.decode(data, Command)  # type: ignore[arg-type]  # a union is no `type`
