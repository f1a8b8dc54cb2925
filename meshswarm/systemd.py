"""Telling systemd how the service is doing (sd_notify(3)); without systemd, nothing happens."""

import os
import socket


def notify(state: str) -> None:
    """Send one state, such as `READY=1` or `STOPPING=1`, to whoever supervises this process.

    A supervisor that cannot be reached is not this service's problem: it is told nothing.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            out.sendto(state.encode(), address)
        except OSError:
            return
