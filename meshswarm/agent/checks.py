"""Carries single checks out: a GET, a connection. Each has a limit in time and in bytes."""

import asyncio
import os
import ssl

from attrs import frozen

from meshswarm.model.probe import HttpCheck

MAX_LINE = 8 * 1024
"""Bytes of a status line that are read."""


@frozen
class Found:
    """How a check ended, and what was said."""

    is_well: bool
    output: str


async def get(check: HttpCheck, host: str, port: int, timeout_s: float) -> Found:
    """GET the path; its body is not read, and no redirection followed."""
    try:
        async with asyncio.timeout(timeout_s):
            line = await _status_line(check, host, port)
    except TimeoutError:
        return Found(False, f"no answer from {host}:{port} within {timeout_s:g} s")
    except (OSError, asyncio.LimitOverrunError, ValueError) as error:
        return Found(False, f"{host}:{port}: {_words(error)}")
    version, _, rest = line.partition(b" ")
    code = rest[:3]
    if not version.startswith(b"HTTP/") or not code.isdigit():
        return Found(False, f"{host}:{port} answers no HTTP: {line[:40]!r}")
    is_well = check.status_low <= int(code) <= check.status_high
    return Found(is_well, f"{check.path} answers {rest.decode(errors='replace').strip()}")


async def connect(host: str, port: int, timeout_s: float) -> Found:
    """Connect, and hang up."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Found(False, f"{host}:{port} takes no connection within {timeout_s:g} s")
    except OSError as error:
        return Found(False, f"{host}:{port}: {_words(error)}")
    writer.transport.abort()
    return Found(True, "")


async def _status_line(check: HttpCheck, host: str, port: int) -> bytes:
    context = _trusting() if check.is_https else None
    reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=MAX_LINE)
    try:
        headers = {
            "host": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "user-agent": "meshswarm-probe",
            "accept": "*/*",
            **{name.lower(): value for name, value in check.headers.items()},
            "connection": "close",
        }
        lines = [f"GET {check.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        return await reader.readline()
    finally:
        writer.transport.abort()


def _trusting() -> ssl.SSLContext:
    """What is asked is whether it answers, at an address that no certificate names."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio's own words hide the system's
    return str(error) or type(error).__name__
