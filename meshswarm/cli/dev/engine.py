"""Whether a container engine answers on this host; asked without the weight of its library."""

import os
import socket
from urllib.parse import urlsplit

USUAL = "unix:///var/run/docker.sock"
PATIENCE_S = 1.0


def answers() -> bool:
    """Whether the engine that $DOCKER_HOST names, or else the usual one, answers a ping."""
    url = urlsplit(os.environ.get("DOCKER_HOST") or USUAL)
    try:
        with _dialed(url.scheme, url.path, url.hostname, url.port) as connection:
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def _dialed(scheme: str, path: str, host: str | None, port: int | None) -> socket.socket:
    if scheme != "unix":
        return socket.create_connection((host or "localhost", port or 2375), timeout=PATIENCE_S)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE_S)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection
