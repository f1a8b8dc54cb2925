"""The files of a cluster on this host: one data directory that says all there is to know.

client.toml client.key   how clients reach it
supervisor.json          the process that runs the nodes, while it does; dev.lock is its claim
dev.log                  what a detached supervisor says
n1/ node.toml node.key   the first node, as `config init` writes any
   node.log process.json what it says; its process, while it runs
   state/                its data directory
"""

import fcntl
import os
import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

from meshswarm.cli.reach import dev_context, dev_contexts, dev_record
from meshswarm.errors import Conflict, MeshswarmError, NotFound

PORTS = range(20_000, 32_000)
"""Where nodes listen: below the ports that Linux gives to outgoing connections."""


STARTS = "--- meshswarm dev starts this node ---"
"""The line in a node's log that begins what its latest process says."""


@frozen
class NodeFiles:
    """The files of one node."""

    folder: Path

    @property
    def name(self) -> str:
        """The node's name."""
        return self.folder.name

    @property
    def config(self) -> Path:
        """Its settings."""
        return self.folder / "node.toml"

    @property
    def log(self) -> Path:
        """What it says on stdout and stderr."""
        return self.folder / "node.log"

    @property
    def mark(self) -> Path:
        """Which process it is."""
        return self.folder / "process.json"

    @property
    def request(self) -> Path:
        """There while someone wants it started."""
        return self.folder / "start-requested"

    @property
    def state(self) -> Path:
        """Its data directory."""
        return self.folder / "state"

    def last_words(self, lines: int = 5) -> list[str]:
        """The end of what its latest process said, without Python's frames of grouped errors."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        latest = text.rpartition(f"{STARTS}\n")[2]
        words = (line.strip(" |+-^~") for line in latest.splitlines())
        return [line for line in words if line][-lines:]


@frozen
class Layout:
    """A data directory of `meshswarm dev`."""

    root: Path

    @property
    def client(self) -> Path:
        """The client context."""
        return self.root / "client.toml"

    @property
    def supervisor(self) -> Path:
        """Which process runs the nodes."""
        return self.root / "supervisor.json"

    @property
    def log(self) -> Path:
        """What a detached supervisor says."""
        return self.root / "dev.log"

    @property
    def exists(self) -> bool:
        """Whether a cluster was made here; the client context is written last."""
        return self.client.exists()

    def nodes(self) -> list[NodeFiles]:
        """The nodes, by name."""
        configs = sorted(self.root.glob("*/node.toml"), key=lambda path: _number(path.parent.name))
        return [NodeFiles(path.parent) for path in configs]

    def node(self, name: str) -> NodeFiles:
        """The node of that name; raises `NotFound`."""
        for node in self.nodes():
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes())
        raise NotFound(f"there is no node {name!r} in this cluster; there are: {names}")


def _number(name: str) -> tuple[int, str]:
    return (len(name), name)


def default_root() -> Path:
    """Where a detached cluster lives unless told otherwise."""
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "meshswarm" / "dev"


def find(data_dir: Path | None) -> Layout:
    """The cluster to speak of: the named one, the one that runs on this host, the default one.

    :raises NotFound: if there is none.
    """
    context = dev_context()
    root = data_dir or (context.parent if context is not None else default_root())
    layout = Layout(root.resolve())
    if not layout.exists:
        raise NotFound(
            "there is no dev cluster here", where=str(root), hint="meshswarm dev --detach"
        )
    return layout


def make(root: Path, *, nodes: int | None, with_docker: bool) -> Layout:
    """The cluster of that directory, made if there is none.

    :raises Conflict: if there is one with another number of nodes.
    """
    from meshswarm.cli.config_files import NewNode, write_cluster
    from meshswarm.model.service import RuntimeKind

    layout = Layout(root.resolve())
    if layout.exists:
        present = len(layout.nodes())
        if nodes not in (None, present):
            raise Conflict(
                f"the cluster here has {present} nodes, not {nodes}",
                where=str(root),
                hint="leave --nodes out to resume it, or choose another --data-dir",
            )
        return layout
    docker = (RuntimeKind.DOCKER,) if with_docker else ()
    new = [
        NewNode(
            name=f"n{number}",
            address=f"127.0.0.1:{port}",
            config=layout.root / f"n{number}" / "node.toml",
            key=layout.root / f"n{number}" / "node.key",
            data_dir="state",
            runtimes=(RuntimeKind.PROCESS, *docker),
        )
        for number, port in enumerate(free_ports(nodes or 3), start=1)
    ]
    client_key = layout.root / "client.key"
    write_cluster(new, name="dev", client=layout.client, client_key=client_key, force=True)
    return layout


def free_ports(count: int) -> Sequence[int]:
    """So many different ports that nobody listens on."""
    found: list[int] = []
    with ExitStack() as held:
        for port in random.sample(PORTS, len(PORTS)):
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise MeshswarmError(f"fewer than {count} ports between {PORTS[0]} and {PORTS[-1]} are free")


@contextmanager
def claimed(layout: Layout) -> Iterator[None]:
    """The sole right to run this cluster's nodes; it ends with the process, however that ends.

    :raises Conflict: if another process has it.
    """
    with (layout.root / "dev.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "this cluster runs already",
                where=str(layout.root),
                hint=f"meshswarm dev status --data-dir {layout.root}",
            ) from None
        yield


def record(layout: Layout) -> None:
    """Make this cluster the one that commands on this host speak to, ahead of those before it."""
    with _records() as contexts:
        contexts[:] = [*(each for each in contexts if each != layout.client), layout.client]


def forget(layout: Layout) -> None:
    """Undo `record`: the cluster that was recorded before it, if any, is the one again."""
    with _records() as contexts:
        contexts[:] = [each for each in contexts if each != layout.client]


@contextmanager
def _records() -> Iterator[list[Path]]:
    """The contexts of this host's dev clusters, oldest first; what is done to the list is kept."""
    file = dev_record()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            contexts = dev_contexts()
            yield contexts
            aside = file.with_suffix(".new")
            aside.write_text("".join(f"{context}\n" for context in contexts), encoding="utf-8")
            aside.replace(file)
    except OSError as error:
        raise MeshswarmError(f"cannot write: {error.strerror}", where=str(file)) from error
