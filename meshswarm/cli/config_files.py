"""Writing a new cluster's files: settings and key of each node, and a client context.

`config init` and `dev` both come through here, so a cluster for trying out is configured as any.
"""

import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from attrs import frozen

from meshswarm.errors import Conflict, Invalid, MeshswarmError
from meshswarm.ids import ClusterId, digest_id
from meshswarm.mesh import keys
from meshswarm.model.node import NodeRole
from meshswarm.model.service import RuntimeKind
from meshswarm.settings import ClientRow, PeerRow

CLIENT_NAME = "client"


@frozen(kw_only=True)
class NewNode:
    """A node to be written down; paths inside a file are relative to it."""

    name: str
    config: Path
    key: Path
    address: str = ""
    """`HOST:PORT` where the others reach it; empty for a worker."""
    data_dir: str | None = None
    """None: the default of the settings."""
    runtimes: tuple[RuntimeKind, ...] | None = None

    @property
    def role(self) -> NodeRole:
        """A node with an address is a manager."""
        return NodeRole.MANAGER if self.address else NodeRole.WORKER


def nodes_on_hosts(
    out: Path, managers: Sequence[tuple[str, str]], workers: Sequence[str]
) -> list[NewNode]:
    """The nodes as `config init` lays them out: `NAME.toml` and `NAME.key` in one folder.

    Managers that share a host get data directories of their own beside their settings.
    """
    hosts = Counter(_host(address) for _, address in managers)
    named = [*managers, *((name, "") for name in workers)]
    return [
        NewNode(
            name=name,
            address=address,
            config=out / f"{name}.toml",
            key=out / f"{name}.key",
            data_dir=f"{name}.data" if hosts[_host(address)] > 1 else None,
        )
        for name, address in named
    ]


def write_cluster(
    nodes: Sequence[NewNode], *, name: str, client: Path, client_key: Path, force: bool = False
) -> list[Path]:
    """Write the files of a new cluster with new keys; gives what was written.

    :raises Invalid: if names or addresses are no such, or used twice.
    :raises Conflict: if a file exists already and `force` is not set.
    :raises MeshswarmError: if a file cannot be written.
    """
    pairs = [keys.generate() for _ in nodes]
    own = keys.generate()
    peers = [_peer(node, pair.public) for node, pair in zip(nodes, pairs, strict=True)]
    _refuse_repetitions(peers)
    files = [file for node in nodes for file in (node.config, node.key)] + [client, client_key]
    _make_room(files, force=force)
    cluster = _section(
        "cluster", {"id": ClusterId(digest_id("cluster", secrets.token_bytes(16))), "name": name}
    )
    clients = [ClientRow(name=CLIENT_NAME, public_key=own.public)]
    for node, pair in zip(nodes, pairs, strict=True):
        _write(node.config, _node_text(node, cluster, peers, clients))
        keys.save(pair, node.key)
    _write(client, _client_text(cluster, client_key.name, peers))
    keys.save(own, client_key)
    return files


def _peer(node: NewNode, public_key: bytes) -> PeerRow:
    try:
        return PeerRow(name=node.name, address=node.address, role=node.role, public_key=public_key)
    except ValueError as error:
        raise Invalid(
            f"node {node.name!r}: {error}", hint="meshswarm config init --help"
        ) from error


def _refuse_repetitions(peers: Sequence[PeerRow]) -> None:
    names = Counter([CLIENT_NAME, *(peer.name for peer in peers)])
    addresses = Counter(peer.address for peer in peers if peer.address)
    twice = [text for table in (names, addresses) for text, times in table.items() if times > 1]
    if twice:
        raise Invalid(
            f"used twice: {', '.join(twice)}",
            hint=f"each node needs a name and an address of its own; {CLIENT_NAME!r} is taken",
        )


def _make_room(files: Sequence[Path], *, force: bool) -> None:
    present = [str(file) for file in files if file.exists()]
    if present and not force:
        raise Conflict(
            "these files are there already, and a key that is overwritten is lost",
            details=present,
            hint="choose another --out, or add --force to begin a new cluster",
        )
    try:
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
    except OSError as error:
        where = str(error.filename)
        raise MeshswarmError(f"cannot write here: {error.strerror}", where=where) from error


def _node_text(
    node: NewNode, cluster: str, peers: Sequence[PeerRow], clients: Sequence[ClientRow]
) -> str:
    about: dict[str, object] = {"name": node.name}
    if node.data_dir is not None:
        about["data_dir"] = node.data_dir
    mesh: dict[str, object] = {"key_file": node.key.name}
    if node.address:
        mesh["listen"] = _listen(node.address)
    parts = [
        f"# The settings of node {node.name}; what is not said here has its default.\n",
        cluster,
        _section("node", about),
        _section("mesh", mesh),
    ]
    if node.runtimes is not None:
        parts.append(_section("agent", {"runtimes": [kind.value for kind in node.runtimes]}))
    for peer in peers:
        row = {
            "name": peer.name,
            "role": peer.role.value,
            "address": peer.address,
            "public_key": peer.public_key.decode(),
        }
        parts.append(_section("[peers]", row))
    for client in clients:
        row = {"name": client.name, "public_key": client.public_key.decode()}
        parts.append(_section("[clients]", row))
    return "\n".join(parts)


def _client_text(cluster: str, key_file: str, peers: Sequence[PeerRow]) -> str:
    parts = [
        "# Where a client finds the managers, and the key that they know it by.\n",
        cluster,
        _section("client", {"name": CLIENT_NAME, "key_file": key_file}),
    ]
    for peer in peers:
        if peer.role is NodeRole.MANAGER:
            row = {
                "name": peer.name,
                "address": peer.address,
                "public_key": peer.public_key.decode(),
            }
            parts.append(_section("[managers]", row))
    return "\n".join(parts)


def _section(name: str, values: Mapping[str, object]) -> str:
    """A TOML table; JSON's texts, unescaped, and its lists of texts are also TOML's."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def _listen(address: str) -> str:
    """All addresses of the host, unless the node is reached by loopback only."""
    host, _, port = address.rpartition(":")
    return f"{host}:{port}" if _is_loopback(host) else f"0.0.0.0:{port}"


def _host(address: str) -> str:
    """Which host the address is on; all loopback addresses are on this one."""
    host = address.rpartition(":")[0]
    return "localhost" if _is_loopback(host) else host


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MeshswarmError(f"cannot write: {error.strerror}", where=str(file)) from error
