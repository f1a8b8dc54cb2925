"""What a power cut, or a kill, may leave of a directory, at any call of the system.

Names are as they were when the directory was last synced, and as any number of the changes since,
in their order, left them; a file's sectors are each as they were when it was last synced, or as
they are now. That is less than what file systems promise. What a sync that failed did not write
is clean to the kernel from then on: it is never written unless it is changed once more.
"""

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import Factory, define

CALLS = ("write", "pwrite", "pwritev", "fsync", "fdatasync", "rename", "unlink", "open")
SECTOR = 512

Image = dict[str, bytes]
"""A directory: its files' names and contents."""


@define(eq=False)
class Disk:
    """Watches the files of one directory."""

    directory: Path
    rng: random.Random
    on_call: Callable[[str], None]
    """Called before each call of the system, and after it."""
    durable: dict[int, bytes] = Factory(dict)
    """By inode, as of its last sync."""
    contents: dict[int, bytes] = Factory(dict)
    """By inode, as it is now, or was when it lost its last name."""
    names: list[dict[str, int]] = Factory(lambda: [{}])
    """The names as of the last sync of the directory, and after each change since."""
    is_broken: bool = False
    """Whether syncs fail."""
    _unwritten: dict[int, set[int]] = Factory(dict)
    """By inode, the sectors that a failed sync left only in the kernel's cache."""
    _retired: int = 0
    """The least number given to what has no name any more."""

    def look(self) -> None:
        """Take note of what is there now."""
        names = {}
        for entry in os.scandir(self.directory):
            if entry.is_file() and entry.name != "lock":
                names[entry.name] = inode = entry.inode()
                self.contents[inode] = Path(entry.path).read_bytes()
        for inode in {*self.names[-1].values()} - {*names.values()}:
            self._retire(inode)
        if names != self.names[-1]:
            self.names.append(names)

    def _retire(self, inode: int) -> None:
        """The file has no name any more; its inode's number may be given to another one."""
        self._retired -= 1
        for contents in (self.contents, self.durable):
            if inode in contents:
                contents[self._retired] = contents.pop(inode)
        for names in self.names:
            names.update((name, self._retired) for name in names if names[name] == inode)

    def synced(self, descriptor: int) -> None:
        """The kernel says that this is durable."""
        self.look()
        about = os.fstat(descriptor)
        inode = about.st_ino
        if inode in self.contents:
            old, new = self.durable.get(inode, b""), bytearray(self.contents[inode])
            for at in self._unwritten.get(inode, ()):
                new[at : at + SECTOR] = old[at : at + SECTOR].ljust(SECTOR, b"\0")
            self.durable[inode] = bytes(new)
        elif about.st_ino == self.directory.stat().st_ino:
            self.names = self.names[-1:]

    def failed(self, descriptor: int) -> None:
        """A sync failed: what was to be written never will be by itself."""
        self.look()
        inode = os.fstat(descriptor).st_ino
        old, new = self.durable.get(inode, b""), self.contents.get(inode, b"")
        lost = self._unwritten.setdefault(inode, set())
        for at in range(0, len(new), SECTOR):
            if old[at : at + SECTOR] != new[at : at + SECTOR]:
                lost.add(at)

    def written(self, descriptor: int, offset: int, size: int) -> None:
        """This was written, maybe once more."""
        first = offset // SECTOR * SECTOR
        lost = self._unwritten.get(os.fstat(descriptor).st_ino, set())
        lost.difference_update(range(first, offset + size, SECTOR))

    def settle(self) -> None:
        """All that is there has been durable for long."""
        self.look()
        self.names = self.names[-1:]
        self.durable = {**self.contents}

    def kept(self) -> "Disk":
        """What the kernel and the disk hold if the process ends now, for `in_place`."""
        self.look()
        return Disk(
            self.directory,
            self.rng,
            self.on_call,
            durable={**self.durable},
            contents={**self.contents},
            names=[{**names} for names in self.names],
        )

    def in_place(self, directory: Path, on_call: Callable[[str], None]) -> "Disk":
        """The same disk with the files of another directory, for another process."""
        places = {}
        for number, inode in enumerate(self.contents, 1):
            places[inode] = -number
            for name in (name for name, one in self.names[-1].items() if one == inode):
                (directory / name).write_bytes(self.contents[inode])
                places[inode] = (directory / name).stat().st_ino
        return Disk(
            directory,
            self.rng,
            on_call,
            durable={
                places[inode]: data for inode, data in self.durable.items() if inode in places
            },
            contents={places[inode]: data for inode, data in self.contents.items()},
            names=[{name: places[inode] for name, inode in one.items()} for one in self.names],
            retired=-len(places),
        )

    def killed(self) -> Image:
        """What is there if the process ends now."""
        self.look()
        return {name: self.contents[inode] for name, inode in self.names[-1].items()}

    def cut(self) -> Image:
        """What may be there if the power goes now."""
        self.look()
        names = self.rng.choice(self.names)
        return {name: self._mixed(inode) for name, inode in names.items()}

    def _mixed(self, inode: int) -> bytes:
        """Each sector as it was, or as it is."""
        old, new = self.durable.get(inode, b""), self.contents[inode]
        size = self.rng.choice((len(old), len(new)))
        old, new = old.ljust(size, b"\0")[:size], new.ljust(size, b"\0")[:size]
        share = self.rng.choice((0.0, 0.5, 1.0))
        return b"".join(
            (new if self.rng.random() < share else old)[at : at + SECTOR]
            for at in range(0, size, SECTOR)
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Every call of the system counts while the block lasts, one after the other."""
        turn = threading.RLock()
        whole = {name: getattr(os, name) for name in CALLS}

        def wrapped(name: str) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                with turn:
                    self.on_call(name)
                    is_sync = name in ("fsync", "fdatasync")
                    if is_sync and self.is_broken:
                        self.failed(arguments[0])
                        raise OSError(errno.EIO, os.strerror(errno.EIO))
                    result = whole[name](*arguments, **named)
                    if is_sync:
                        self.synced(arguments[0])
                    elif name in ("pwrite", "pwritev"):
                        self.written(arguments[0], arguments[2], result)
                    self.look()
                    self.on_call(name)
                    return result

            return call

        for name in CALLS:
            setattr(os, name, wrapped(name))
        try:
            yield
        finally:
            for name in CALLS:
                setattr(os, name, whole[name])
