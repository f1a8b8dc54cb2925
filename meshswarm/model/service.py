"""What users ask for: a service's spec, and the row the store keeps of it."""

from collections.abc import Mapping
from enum import Enum

from attrs import Factory, field, frozen
from attrs.validators import and_, ge, gt, le, optional

from meshswarm.ids import ServiceId, Version
from meshswarm.model.dependency import Dependency
from meshswarm.model.file import FileUse, Reload
from meshswarm.model.network import NetworkMode, NetworkUse, Port
from meshswarm.model.placement import Placement
from meshswarm.model.probe import Probes
from meshswarm.model.resources import DeviceRequest, Resources
from meshswarm.model.rollout import UpdatePolicy
from meshswarm.model.volume import Mount


class RuntimeKind(Enum):
    """What runs a task: a Docker engine, or the agent itself as a plain process."""

    DOCKER = "docker"
    PROCESS = "process"


class Mode(Enum):
    """How many tasks a service has: a number, or one on every node that fits.

    Those of a job run to their end: so many times, or once on every node.
    """

    REPLICATED = "replicated"
    GLOBAL = "global"
    REPLICATED_JOB = "replicated-job"
    GLOBAL_JOB = "global-job"

    @property
    def is_job(self) -> bool:
        """Whether its tasks are to end."""
        return self in (Mode.REPLICATED_JOB, Mode.GLOBAL_JOB)

    @property
    def is_global(self) -> bool:
        """Whether nodes are its slots."""
        return self in (Mode.GLOBAL, Mode.GLOBAL_JOB)


class RestartCondition(Enum):
    """After which ends a task is replaced; losing the node always replaces it, except with NONE."""

    ANY = "any"
    ON_FAILURE = "on-failure"
    NONE = "none"


@frozen(kw_only=True)
class RestartPolicy:
    """When and how soon an ended task is replaced.

    The first replacement comes at once; then the delay starts at `delay_s` and doubles up to
    `max_delay_s`, until a task has run for `reset_after_s`.
    """

    condition: RestartCondition = RestartCondition.ANY
    delay_s: float = field(default=0.5, validator=ge(0))
    max_delay_s: float = field(default=300.0, validator=ge(0))
    reset_after_s: float = field(default=600.0, validator=ge(0))
    max_attempts: int = field(default=0, validator=ge(0))
    """Replacements of one slot within `window_s` before giving up; 0 is no limit."""
    window_s: float = field(default=0.0, validator=ge(0))
    """0: all attempts of this revision count."""


@frozen(kw_only=True)
class HealthCheck:
    """A command that says whether the task is well: exit 0 is healthy (Compose `healthcheck`)."""

    test: tuple[str, ...]
    """`("CMD", arg, ...)` or `("CMD-SHELL", "one shell line")`, as in Compose."""
    interval_s: float = field(default=30.0, validator=gt(0))
    timeout_s: float = field(default=30.0, validator=gt(0))
    retries: int = field(default=3, validator=ge(1))
    """Failures in a row that make the task unhealthy."""
    start_period_s: float = field(default=0.0, validator=ge(0))
    """Failures this early do not count."""
    start_interval_s: float = field(default=5.0, validator=gt(0))
    """Between probes within the start period."""


class Comparison(Enum):
    """How a constraint compares."""

    EQUAL = "=="
    NOT_EQUAL = "!="


@frozen(kw_only=True)
class Constraint:
    """One condition on a node: `key comparison value`; a missing label equals the empty text.

    Keys: node.id, node.hostname (the node's name or its host's), node.ip (an address, or a network
    such as 10.0.0.0/8, in which one of the node's is), node.role, node.platform.os,
    node.platform.arch, node.labels.X, engine.labels.X; lower case except X. Values compare without
    regard to case.
    """

    key: str
    comparison: Comparison
    value: str

    def __str__(self) -> str:
        return f"{self.key}{self.comparison.value}{self.value}"


@frozen(kw_only=True)
class TaskSpec:
    """What each task of a service runs, and where it may; a change of it is a new revision."""

    runtime: RuntimeKind = RuntimeKind.DOCKER
    image: str | None = None
    """Required by the docker runtime, unused by process."""
    entrypoint: tuple[str, ...] | None = None
    """None: the image's own; the empty tuple clears it."""
    command: tuple[str, ...] | None = None
    """None: the image's own. A process runs `entrypoint + command`."""
    environment: Mapping[str, str] = Factory(dict)
    working_dir: str | None = None
    user: str | None = None
    labels: Mapping[str, str] = Factory(dict)
    """Labels of the container."""
    ports: tuple[Port, ...] = ()
    mounts: tuple[Mount, ...] = ()
    healthcheck: HealthCheck | None = None
    """None: the image's own, if it has one."""
    healthcheck_disabled: bool = False
    """Ignore the image's own as well."""
    stop_signal: str | None = None
    """None: the image's own, else SIGTERM."""
    stop_grace_period_s: float = field(default=10.0, validator=ge(0))
    """From the stop signal to SIGKILL."""
    limits: Resources = Resources()
    reservations: Resources = Resources()
    restart: RestartPolicy = RestartPolicy()
    constraints: tuple[Constraint, ...] = ()
    platform: str | None = None
    """`OS/ARCH` as Docker names them; None: any that runs the image."""
    placement: Placement = Placement()
    devices: tuple[DeviceRequest, ...] = ()
    files: tuple[FileUse, ...] = ()
    """Configs and secrets that it has as files."""
    reload: Reload | None = None
    """How other content of `files` comes to running tasks; None: they are replaced."""
    probes: Probes = Probes()
    """Beside `healthcheck`; the agent carries them out, whatever the runtime."""
    networks: tuple[NetworkUse, ...] = ()
    """Without any, and without a mode: the engine's default network, where nothing has a name."""
    network_mode: NetworkMode | None = None
    lost_after_s: float | None = field(default=None, validator=optional(ge(0)))
    """Its node may be silent for so long before it is replaced; None: until the node is down."""
    stop_after_s: float | None = field(default=None, validator=optional(gt(0)))
    """An agent that no manager has heard for so long stops it; None: it runs on. Then it is
    replaced only once its agent must have ended it, even if `lost_after_s` is less."""


@frozen(kw_only=True)
class ServiceSpec:
    """One service as its user wants it; never altered by the cluster."""

    name: str
    """The full name, unique in the cluster: `STACK_SERVICE`, or just a name without a stack."""
    stack: str | None = None
    mode: Mode = Mode.REPLICATED
    replicas: int = field(default=1, validator=ge(0))
    """Of a replicated job: the slots that must come to their end. Meaningless, and 1, when the mode
    is global."""
    max_concurrent: int = field(default=0, validator=ge(0))
    """Of a replicated job: slots under way at a time; 0: all."""
    active_deadline_s: float | None = field(default=None, validator=optional(gt(0)))
    """Of a job: if it is not complete so long after its start, it has failed. None: no limit."""
    labels: Mapping[str, str] = Factory(dict)
    """Labels of the service itself; changing them restarts nothing."""
    priority: int = 0
    """Its tasks may take the place of tasks of services with a smaller one."""
    max_unavailable: int | None = field(default=None, validator=optional(ge(0)))
    """So many tasks may be missing by our own doing; None: see the next one."""
    max_unavailable_percent: int | None = field(
        default=None, validator=optional(and_(ge(0), le(100)))
    )
    """The same as a share of its tasks, rounded down, but at least 1 unless it is 0. Neither of
    the two: no limit."""
    update: UpdatePolicy = UpdatePolicy()
    rollback: UpdatePolicy = UpdatePolicy()
    """How it goes back to an earlier revision."""
    depends_on: tuple[Dependency, ...] = ()
    """What its first tasks and its rollouts wait for; when both are removed, it stops first."""
    task: TaskSpec

    def __attrs_post_init__(self) -> None:
        if self.max_unavailable is not None and self.max_unavailable_percent is not None:
            raise ValueError("max_unavailable is either a number or a percentage")


@frozen(kw_only=True)
class Service:
    """A service in the store."""

    id: ServiceId
    spec: ServiceSpec
    revision: int
    """Number of the current revision. The first is 1; a change of `spec.task`, or a restart, makes
    the next one, going back makes an earlier one current again."""
    version: Version
    created_at_ms: int
    updated_at_ms: int


@frozen(kw_only=True)
class Revision:
    """One numbered `TaskSpec` of a service; kept while a task refers to it, or for going back."""

    service_id: ServiceId
    number: int
    task: TaskSpec
    depends_on: tuple[Dependency, ...] = ()
    """As the service had it last: it tells who stops first once the service is gone."""
    created_at_ms: int
