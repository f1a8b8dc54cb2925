"""Who may take part: peers, their roles, and the lanes between them."""

from enum import Enum

from attrs import Attribute, Factory, field, frozen

from meshswarm.errors import Invalid
from meshswarm.ids import NodeId, node_id_of


class Lane(Enum):
    """The connections to a peer, apart so that bulk never delays heartbeats.

    CONTROL: votes, heartbeats, acknowledgements, small calls. DATA: appends, assignments.
    BULK: snapshots, logs, exec.
    """

    CONTROL = "c"
    DATA = "d"
    BULK = "b"

    __hash__ = object.__hash__  # members are looked up for every message; Enum's own runs Python


class PeerRole(Enum):
    """What a key may be used for; handlers name the roles that they answer."""

    MANAGER = "manager"
    WORKER = "worker"
    CLIENT = "client"

    __hash__ = object.__hash__  # as above


NODES = frozenset({PeerRole.MANAGER, PeerRole.WORKER})
EVERYONE = frozenset(PeerRole)


PORT_MAX = 65535


def check_address(address: str, where: str, *, port_min: int = 1) -> None:
    """Raise `Invalid`, naming `where` it stands, if `address` is not "host:port"."""
    host, _, port = address.rpartition(":")
    # libzmq would take port 99999 for 34463.
    is_port = port.isascii() and port.isdigit() and port_min <= int(port) <= PORT_MAX
    if not host or not is_port:
        raise Invalid(
            f"not an address: {address!r}",
            where=where,
            hint='an address is "HOST:PORT", an IPv6 host in brackets',
        )


def _is_address(peer: "Peer", _: "Attribute[str | None]", value: str | None) -> None:
    if value is not None:
        check_address(value, f"peer {peer.name}")


def _id_is_of_key(peer: "Peer", _: "Attribute[NodeId]", value: NodeId) -> None:
    expected = node_id_of(peer.public_key)
    if value != expected:
        raise Invalid(f"peer `{peer.name}`: its key stands for id {expected}, not for {value}")


def _is_key(peer: "Peer", _: "Attribute[bytes]", value: bytes) -> None:
    if len(value) != 40:
        raise Invalid(
            f"peer `{peer.name}`: a public key is 40 characters of Z85, not {len(value)}",
            hint="copy the line `public` of its key file",
        )


@frozen(kw_only=True)
class Peer:
    """A member of the allow list; `id` follows from the key and is checked against it.

    `address` is "host:port" of its listening socket, None for whoever only dials out.
    """

    name: str
    role: PeerRole
    public_key: bytes = field(validator=_is_key)
    address: str | None = field(default=None, validator=_is_address)
    id: NodeId = field(
        default=Factory(lambda peer: node_id_of(peer.public_key), takes_self=True),
        validator=_id_is_of_key,
    )
