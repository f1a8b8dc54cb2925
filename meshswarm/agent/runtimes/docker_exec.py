"""The connection of an exec session, which the engine hands over from HTTP to plain bytes."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import Any

import requests

from meshswarm.agent.runtimes.port import Piece
from meshswarm.model.pipe import PIECE_BYTES

STDERR = 2
"""The number of that stream in the engine's frames."""

END_OF_INPUT = b"\x04"
"""What a terminal takes for it."""


class ExecSocket:
    """Blocking ends for worker threads; `close` from any thread wakes them.

    Read through the response's own buffer, which may hold the first output already, and write to
    the socket below it.
    """

    def __init__(self, response: requests.Response, *, has_terminal: bool) -> None:
        http: Any = response.raw._fp
        self._response = response
        self._reader: BufferedReader = http.fp
        self._socket: socket.socket = http.fp.raw._sock
        self._socket.settimeout(None)
        self._has_terminal = has_terminal
        self._stderr = False
        self._left = 0

    def read(self) -> Piece | None:
        """The next output; None at its end, or when the connection is closed."""
        try:
            if self._has_terminal:
                data = self._reader.read1(PIECE_BYTES)
            else:
                if not self._left:
                    head = self._reader.read(8)
                    if len(head) < 8:
                        return None
                    self._stderr = head[0] == STDERR
                    self._left = int.from_bytes(head[4:], "big")
                data = self._reader.read1(min(self._left, PIECE_BYTES))
                self._left -= len(data)
        except (OSError, ValueError):
            return None
        return Piece("stderr" if self._stderr else "stdout", data) if data else None

    def write_all(self, pieces: Callable[[], Iterator[bytes]]) -> None:
        """Write them, then end the input; what nobody reads any more is dropped."""
        with contextlib.suppress(OSError):
            for data in pieces():
                self._socket.sendall(data)
            if self._has_terminal:
                self._socket.sendall(END_OF_INPUT)
            else:
                self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let the connection go."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._response.close()
