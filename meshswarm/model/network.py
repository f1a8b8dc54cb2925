"""Where a task can be reached: its networks, and the ports it publishes on its node."""

from collections.abc import Mapping
from enum import Enum

from attrs import Factory, field, frozen
from attrs.validators import and_, ge, le


class Protocol(Enum):
    """The transport of a port."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


@frozen(kw_only=True)
class Port:
    """One port published on the task's own node ("host mode")."""

    target: int = field(validator=and_(ge(1), le(65535)))
    """Inside the container."""
    published: int = field(default=0, validator=and_(ge(0), le(65535)))
    """On the node; 0 lets the node choose a free one."""
    protocol: Protocol = Protocol.TCP
    host_ip: str = ""
    """The node's address to listen on; empty is all of them."""


@frozen(kw_only=True)
class NetworkUse:
    """That a container is in a network of its own node, where it has names.

    Each node has a network of that name for itself, made with its first task there and removed with
    its last one; an external one is the operator's, and neither made nor removed.
    """

    name: str
    """The full name, `STACK_NETWORK`; the engine's own name of an external one."""
    aliases: tuple[str, ...] = ()
    """Names by which the others in it find the container, besides its own."""
    external: bool = False
    internal: bool = False
    """Without a way out."""
    driver_options: Mapping[str, str] = Factory(dict)
    labels: Mapping[str, str] = Factory(dict)


class NetworkMode(Enum):
    """What a container has instead of networks: the host's own, or nothing."""

    HOST = "host"
    NONE = "none"
