"""The door: who may connect is decided here, once per handshake (ZAP, ZeroMQ RFC 27).

Own handler instead of pyzmq's, so that it runs on our loop: while the loop is wedged nobody is let
in. ZAP has no way to close an open connection; the listener checks the list again on each message.
"""

from collections.abc import Callable

import zmq
from zmq.utils import z85

from meshswarm.ids import NodeId
from meshswarm.mesh.faults import Fault, Faults
from meshswarm.mesh.pump import Pump

ADDRESS = "inproc://zeromq.zap.01"
DOMAIN = b"meshswarm"
VERSION = b"1.0"


class Door:
    """Answers libzmq's question "may this key enter?"; opened before anything is bound.

    `id_of` gives the id that a public key (40 bytes of Z85) stands for, None if it may not enter.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        id_of: Callable[[bytes], NodeId | None],
        faults: Faults,
        *,
        messages_per_turn: int,
    ) -> None:
        self._id_of = id_of
        self._faults = faults
        socket = context.socket(zmq.REP)
        socket.bind(ADDRESS)
        self.pump = Pump(socket, self._on_request, messages_per_turn=messages_per_turn)

    def _on_request(self, _: zmq.Frame, frames: list[bytes]) -> None:
        match frames:
            case [version, request, domain, address, _identity, b"CURVE", key] if (
                version == VERSION and domain == DOMAIN and len(key) == 32
            ):
                self._decide(request, address, z85.encode(key))
            case [_, request, *_]:
                self._answer(request, b"400", b"this mesh speaks CURVE only")
            case _:
                self._answer(b"", b"500", b"not a ZAP request")

    def _decide(self, request: bytes, address: bytes, key: bytes) -> None:
        node = self._id_of(key)
        if node is None:
            source = f"key {key.decode()}"
            self._faults.note(
                Fault.REFUSED_KEY,
                source,
                f"not in our list, from {address.decode('ascii', 'replace')}",
            )
            self._answer(request, b"400", b"key is not in our list")
        else:
            self._answer(request, b"200", b"OK", node.encode())

    def _answer(self, request: bytes, status: bytes, text: bytes, user: bytes = b"") -> None:
        self.pump.send([VERSION, request, status, text, user, b""])
