"""Tar archives on their way through a pipe: a thread packs or unpacks, the loop moves the bytes."""

import asyncio
import io
import tarfile
from pathlib import Path

from meshswarm.errors import MeshswarmError
from meshswarm.piping import RemotePipe

BUFFER_BYTES = tarfile.BLOCKSIZE * 128
"""What is packed or unpacked at a time: one piece of a pipe."""


class Reader(io.RawIOBase):
    """What comes out of a pipe, as a file for the thread that unpacks."""

    def __init__(self, pipe: RemotePipe, loop: asyncio.AbstractEventLoop) -> None:
        self._pipe = pipe
        self._loop = loop
        self._rest = b""
        self.said = bytearray()

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """As many bytes, fewer at the end."""
        found = bytearray()
        while size < 0 or len(found) < size:
            if not self._rest:
                if self._pipe.exit_code is not None:
                    break
                output = asyncio.run_coroutine_threadsafe(self._pipe.read(), self._loop).result()
                if output is None:
                    break
                if output.stream == "stderr":
                    self.said.extend(output.data)
                    continue
                self._rest = output.data
            wanted = len(self._rest) if size < 0 else size - len(found)
            found += self._rest[:wanted]
            self._rest = self._rest[wanted:]
        return bytes(found)


class Writer(io.RawIOBase):
    """A pipe as a file for the thread that packs."""

    def __init__(self, pipe: RemotePipe, loop: asyncio.AbstractEventLoop) -> None:
        self._pipe = pipe
        self._loop = loop

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: object) -> int:
        """Wait until the far end has taken it."""
        if self._pipe.exit_code is not None:
            raise BrokenPipeError
        piece = bytes(data)  # type: ignore[call-overload]
        asyncio.run_coroutine_threadsafe(self._pipe.write(piece), self._loop).result()
        return len(piece)

    def end(self) -> None:
        """There is no more."""
        asyncio.run_coroutine_threadsafe(self._pipe.end_input(), self._loop).result()


def unpack(reader: Reader, parent: Path, name: str) -> int:
    """Unpack an archive of one root, which is called `name` here; gives the number of files."""
    count = 0
    try:
        with tarfile.open(fileobj=reader, mode="r|", bufsize=BUFFER_BYTES) as archive:
            for member in archive:
                _, slash, rest = member.name.partition("/")
                path = name + slash + rest
                link = member.linkname
                if member.islnk():  # to another file of the archive, whose root has a new name
                    link = name + slash + link.partition("/")[2]
                count += not member.isdir()
                renamed = member.replace(name=path, linkname=link, deep=False)
                archive.extract(renamed, parent, filter="data")
    except tarfile.ReadError:
        if not reader.said:  # else what it said tells more
            raise MeshswarmError("what came is no archive") from None
    except (tarfile.TarError, OSError) as error:
        raise MeshswarmError(f"cannot write to {parent}: {error}") from error
    return count


def pack(source: Path, name: str, writer: Writer) -> int:
    """Write the archive of `source`, called `name` there; gives the number of files."""
    count = 0

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        nonlocal count
        count += not member.isdir()
        return member.replace(uid=0, gid=0, uname="", gname="", deep=False)

    try:
        with tarfile.open(fileobj=writer, mode="w|", bufsize=BUFFER_BYTES) as archive:
            archive.add(source, arcname=name, filter=anonymous)
        writer.end()
    except BrokenPipeError:  # the far end said why
        pass
    except OSError as error:
        raise MeshswarmError(f"cannot read {source}: {error}") from error
    return count
