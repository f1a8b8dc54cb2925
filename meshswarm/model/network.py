"""Where a task can be reached: the ports it publishes on its node."""

from enum import Enum

from attrs import field, frozen
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
