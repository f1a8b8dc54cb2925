"""A node: one host of the cluster, its spec, what its agent says of it, and whether it lives."""

from collections.abc import Mapping
from enum import Enum

from attrs import Factory, frozen

from meshswarm.ids import NodeId, Version
from meshswarm.model.resources import DeviceOffer, Resources
from meshswarm.model.service import RuntimeKind

ARCHITECTURES: Mapping[str, str] = {
    "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386",
}  # fmt: skip
"""Docker's names of the machines; others are called as the kernel does."""

MAX_DOWNS = 16
"""Times that a node went down which are remembered of it."""


class NodeRole(Enum):
    """A manager runs Raft and an agent, a worker only an agent."""

    MANAGER = "manager"
    WORKER = "worker"


class Availability(Enum):
    """What the user allows: new tasks, only the present ones, or none."""

    ACTIVE = "active"
    PAUSE = "pause"
    DRAIN = "drain"


class NodeState(Enum):
    """What the leader believes of a node, from its session's beats."""

    UNKNOWN = "unknown"
    """Registered, not heard since."""
    READY = "ready"
    SUSPECT = "suspect"
    """Silent just now: it keeps what it has, and gets nothing new."""
    UNSTABLE = "unstable"
    """It answers, and was down again and again: it gets nothing new before `trusted_at_ms`."""
    DOWN = "down"


@frozen(kw_only=True)
class NodeDescription:
    """What the node's agent found on its host."""

    hostname: str = ""
    addresses: tuple[str, ...] = ()
    """IP addresses from which its host reaches the managers; of each, one way is enough."""
    os: str = "linux"
    arch: str = ""
    """As Docker names it: amd64, arm64, ..."""
    resources: Resources = Resources()
    devices: tuple[DeviceOffer, ...] = ()
    """From its settings: what tasks can have for themselves alone."""
    runtimes: tuple[RuntimeKind, ...] = ()
    """What it offers right now: listed in its settings, and answering."""
    engine_version: str = ""
    engine_labels: Mapping[str, str] = Factory(dict)
    meshswarm_version: str = ""


@frozen(kw_only=True)
class Node:
    """A node in the store."""

    id: NodeId
    name: str
    role: NodeRole
    address: str = ""
    """`HOST:PORT` of its mesh; empty for a worker, which only dials out."""
    labels: Mapping[str, str] = Factory(dict)
    availability: Availability = Availability.ACTIVE
    drain_by_ms: int = 0
    """Of a drained node: when all that is still there goes regardless, by log time; 0: never."""
    description: NodeDescription = NodeDescription()
    incarnation: int = 0
    """Start time of its process in ms; a restarted node has a larger one."""
    state: NodeState = NodeState.UNKNOWN
    message: str = ""
    since_ms: int = 0
    """When `state` began, by log time."""
    held_since_ms: int = 0
    """Since when the brake has held back that it is down (most nodes are silent at once); kept of
    those that it has let go, as long as it is on. 0: it does not."""
    downs_ms: tuple[int, ...] = ()
    """When it went down, the last `MAX_DOWNS` times, by log time."""
    trusted_at_ms: int = 0
    """Until when it must have stayed up to get new tasks; 0: nothing speaks against it."""
    version: Version = Version(0)
