"""What an agent needs to be told: who it is, and how it may work."""

from collections.abc import Mapping

from attrs import Factory, field, frozen
from attrs.validators import ge, le

from meshswarm.ids import ClusterId, NodeId
from meshswarm.model.node import NodeRole
from meshswarm.model.resources import DeviceOffer
from meshswarm.model.service import RuntimeKind


@frozen(kw_only=True)
class AgentSettings:
    """The `[agent]` section, and the beat of `[liveness]`."""

    runtimes: tuple[RuntimeKind, ...] = (RuntimeKind.DOCKER,)
    """What this node offers, as far as it answers."""
    devices: tuple[DeviceOffer, ...] = ()
    """What tasks can have of it for themselves alone."""
    docker_host: str = ""
    """The engine's URL; empty: DOCKER_HOST, else the usual socket."""
    max_parallel_starts: int = field(default=8, validator=[ge(1), le(64)])
    """Containers created or started at once; an engine gets slower, not faster, with more."""
    log_bytes_max: int = field(default=10 * 1024 * 1024, validator=ge(64 * 1024))
    """Kept of each output stream of a task; older output is dropped."""
    files_dir: str = ""
    """Where tasks' configs and secrets lie, in memory; empty: on one of the host's usual tmpfs."""
    beat_ms: int = field(default=1_000, validator=ge(50))
    """Between two signs of life to the manager."""


@frozen(kw_only=True)
class AgentIdentity:
    """Which node of which cluster this is."""

    node_id: NodeId
    name: str
    role: NodeRole
    cluster_id: ClusterId
    incarnation: int
    """Start time of this process in ms; a restarted node has a larger one."""
    address: str = ""
    """`HOST:PORT` of its mesh; empty for a worker."""
    labels: Mapping[str, str] = Factory(dict)
    """For the node's row when it registers for the first time; later ones are the user's."""
