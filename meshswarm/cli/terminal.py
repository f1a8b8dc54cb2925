"""This side's terminal, and standard input as it comes, for commands that run elsewhere."""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Callable, Iterator

from meshswarm.model.pipe import PIECE_BYTES, WindowSize


def window_size(descriptor: int = 0) -> WindowSize:
    """How large the terminal is; one that does not say counts as 24 by 80."""
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return WindowSize()
    return WindowSize(rows=max(1, size.lines), columns=max(1, size.columns))


@contextlib.contextmanager
def raw(descriptor: int = 0) -> Iterator[None]:
    """Every key goes through as it is, Ctrl-C too, until the block is left."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)


@contextlib.contextmanager
def key_pressed(key: bytes, descriptor: int = 0) -> Iterator[asyncio.Event]:
    """An event that is set when this key is pressed, or the terminal is gone; Ctrl-C goes on to
    interrupt. Where standard input is no terminal it is never set."""
    pressed = asyncio.Event()
    if not os.isatty(descriptor):
        yield pressed
        return
    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(descriptor)

    def look() -> None:
        typed = os.read(descriptor, PIECE_BYTES)
        if not typed or key in typed:
            loop.remove_reader(descriptor)
            pressed.set()

    try:
        tty.setcbreak(descriptor)
        loop.add_reader(descriptor, look)
        yield pressed
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)


@contextlib.contextmanager
def on_resize(changed: Callable[[], None]) -> Iterator[None]:
    """Call `changed` in the loop whenever the terminal has another size."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, changed)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


async def typed(descriptor: int = 0) -> AsyncIterator[bytes]:
    """What comes from standard input, until its end; a plain file is read as fast as it is used."""
    loop = asyncio.get_running_loop()
    while True:
        ready = asyncio.Event()
        try:
            loop.add_reader(descriptor, ready.set)
        except PermissionError:  # a plain file: never waits, and cannot be waited for
            pass
        else:
            try:
                await ready.wait()
            finally:
                loop.remove_reader(descriptor)
        data = os.read(descriptor, PIECE_BYTES)
        if not data:
            return
        yield data


def write(stream: str, data: bytes) -> None:
    """Pass output on, byte for byte."""
    out = sys.stderr.buffer if stream == "stderr" else sys.stdout.buffer
    out.write(data)
    out.flush()
