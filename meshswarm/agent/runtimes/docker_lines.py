"""What an engine streams: its items, and the lines that a container wrote, with their times."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any, TypeVar

import requests
import urllib3
from docker.types import CancellableStream

from meshswarm.agent.runtimes import docker_spec
from meshswarm.agent.runtimes.port import MAX_LINE, LogLine, Stream

T = TypeVar("T")

STDERR = 2
"""The number of that stream in the engine's frames."""


class Latest:
    """How far a reader of a container's output has come; `at_ms` if it saw nothing yet."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms
        self._stamps = {"stdout": "", "stderr": ""}

    def lines(self, number: int, content: bytes) -> Iterator[LogLine]:
        """The lines of one frame, each after its timestamp, without those that were read before.

        The engine's timestamps have a fixed width, so they sort as texts.
        """
        stream: Stream = "stderr" if number == STDERR else "stdout"
        for raw in content.decode(errors="replace").removesuffix("\n").split("\n"):
            stamp, _, text = raw.partition(" ")
            at_ms = docker_spec.instant_ms(stamp)
            if at_ms is None or stamp <= self._stamps[stream]:
                continue
            self._stamps[stream] = stamp
            self.at_ms = at_ms
            for at in range(0, max(1, len(text)), MAX_LINE):
                yield LogLine(stream=stream, text=text[at : at + MAX_LINE], at_ms=at_ms)


def end(stream: "CancellableStream[Any]") -> None:
    """End a stream from any thread; the SDK's own way fails if the engine ended it before."""
    with contextlib.suppress(OSError, AttributeError):
        stream.close()


def next_of(stream: Iterator[T], count: int) -> list[T]:
    """The next items, at most `count`, fewer at the end of the stream, none after it."""
    try:
        return list(itertools.islice(stream, count))
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError):
        return []  # closed by us, or by an engine that went away
