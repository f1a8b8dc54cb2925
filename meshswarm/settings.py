"""Settings: a TOML file and the environment become frozen values, or all their faults at once.

`load_settings` reads a node's file (config/node.toml shows every setting with its default),
`load_client_context` the file that tells a client where the managers are. A variable
`MESHSWARM_SECTION_KEY` overrides `key` of `[section]`; lists are then separated by commas, maps
are `name=value` pairs separated by commas. Relative paths start at the file's folder.

To add a setting: a field here with default, range and unit, and the same line in config/node.toml.
"""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from attrs import Attribute, Factory, field, frozen
from attrs.validators import and_, ge, le, min_len

from meshswarm.agent.devices import offers_of
from meshswarm.ids import ClusterId, NodeId, node_id_of
from meshswarm.model.node import NodeRole
from meshswarm.model.service import RuntimeKind
from meshswarm.toml import TomlFile

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(\d{1,5})")
_Z85_KEY = re.compile(rb"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


def _is_name(_: object, attribute: "Attribute[Any]", value: Any) -> None:
    if not _NAME.fullmatch(value):
        allowed = "1 to 63 letters, digits, `-`, `_` and `.`, with a letter or digit first"
        raise ValueError(f"'{attribute.name}' must be {allowed}: {value!r}")


def _is_address(_: object, attribute: "Attribute[Any]", value: Any) -> None:
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"'{attribute.name}' must be HOST:PORT: {value!r}")


def _is_address_or_empty(_: object, attribute: "Attribute[Any]", value: Any) -> None:
    if value:
        _is_address(None, attribute, value)


def _is_public_key(_: object, attribute: "Attribute[Any]", value: Any) -> None:
    if not _Z85_KEY.fullmatch(value):
        raise ValueError(f"'{attribute.name}' must be the 40 characters of a key file's `public`")


def _are_devices(_: object, attribute: "Attribute[Any]", value: Any) -> None:
    try:
        offers_of(value)
    except ValueError as error:
        raise ValueError(f"'{attribute.name}': {error}") from error


# --- the sections of a node's file ----------------------------------------------------------------


class LogLevel(Enum):
    """The least important event that is still logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@frozen(kw_only=True)
class ClusterSection:
    """[cluster]: which cluster this node belongs to; data of another one is refused."""

    id: ClusterId = field(validator=_is_name)
    name: str = field(default="meshswarm", validator=_is_name)


@frozen(kw_only=True)
class NodeSection:
    """[node]: this node itself."""

    name: str = field(validator=_is_name)
    data_dir: Path = Path("/var/lib/meshswarm")
    labels: Mapping[str, str] = Factory(dict)


@frozen(kw_only=True)
class MeshSection:
    """[mesh]: where this node listens, and the key that it is known by."""

    listen: str = field(default="0.0.0.0:4747", validator=_is_address)
    key_file: Path | None = None
    """None: `node.key` in the data directory."""


@frozen(kw_only=True)
class RaftSection:
    """[raft]: the pace of consensus and the size of its log."""

    heartbeat_ms: int = field(default=100, validator=and_(ge(10), le(10_000)))
    election_timeout_ms: int = field(default=1000, validator=and_(ge(50), le(100_000)))
    """Randomised from this to twice this."""
    snapshot_entries: int = field(default=10_000, validator=ge(100))
    trailing_entries: int = field(default=10_000, validator=ge(0))
    snapshot_bytes_per_s: int = field(default=16 << 20, validator=ge(64 << 10))
    max_append_bytes: int = field(default=1 << 20, validator=and_(ge(1 << 20), le(8 << 20)))
    max_inflight: int = field(default=16, validator=and_(ge(1), le(1024)))
    max_uncommitted_bytes: int = field(default=64 << 20, validator=ge(4096))
    shallow_sleep: bool = True


@frozen(kw_only=True)
class LivenessSection:
    """[liveness]: how soon a silent node is given up."""

    beat_ms: int = field(default=1000, validator=and_(ge(50), le(60_000)))
    suspect_ms: int = field(default=2000, validator=and_(ge(100), le(600_000)))
    down_ms: int = field(default=4000, validator=and_(ge(200), le(3_600_000)))
    storm_percent: int = field(default=55, validator=and_(ge(1), le(100)))
    storm_after_ms: int = field(default=300_000, validator=and_(ge(1_000), le(86_400_000)))
    storm_pause_ms: int = field(default=60_000, validator=and_(ge(100), le(3_600_000)))
    flap_downs: int = field(default=3, validator=and_(ge(1), le(16)))
    flap_window_ms: int = field(default=600_000, validator=and_(ge(1_000), le(86_400_000)))
    flap_first_ms: int = field(default=10_000, validator=and_(ge(100), le(3_600_000)))
    flap_max_ms: int = field(default=600_000, validator=and_(ge(100), le(86_400_000)))


@frozen(kw_only=True)
class SchedulingSection:
    """[scheduling]: where tasks run."""

    rebalance: bool = False


@frozen(kw_only=True)
class AgentSection:
    """[agent]: what this node offers to run tasks with."""

    runtimes: tuple[RuntimeKind, ...] = (RuntimeKind.DOCKER,)
    devices: tuple[str, ...] = field(default=(), validator=_are_devices)
    """`KIND=ID` for each device, or `KIND=NUMBER`."""
    docker_host: str = ""
    """As $DOCKER_HOST; empty is the engine's usual socket."""
    max_parallel_starts: int = field(default=8, validator=and_(ge(1), le(64)))
    log_bytes_max: int = field(default=10 << 20, validator=ge(64 << 10))
    """Kept of each output stream of one plain process."""
    files_dir: str = ""
    """Empty: on one of the host's usual tmpfs."""


@frozen(kw_only=True)
class StoreSection:
    """[store]: the disk under the replicated log."""

    min_free_bytes: int = field(default=256 << 20, validator=ge(0))


@frozen(kw_only=True)
class LogSection:
    """[log]: what the node tells of itself on stderr."""

    level: LogLevel = LogLevel.INFO


@frozen(kw_only=True)
class PeerRow:
    """[[peers]]: one node of the cluster, this one included."""

    name: str = field(validator=_is_name)
    public_key: bytes = field(validator=_is_public_key)
    address: str = field(default="", validator=_is_address_or_empty)
    role: NodeRole = NodeRole.MANAGER

    @property
    def id(self) -> NodeId:
        """The id that its key stands for."""
        return node_id_of(self.public_key)


@frozen(kw_only=True)
class ClientRow:
    """[[clients]]: one key that may use the cluster."""

    name: str = field(validator=_is_name)
    public_key: bytes = field(validator=_is_public_key)


@frozen(kw_only=True)
class Settings:
    """All that a node is told before it starts."""

    cluster: ClusterSection
    node: NodeSection
    mesh: MeshSection
    raft: RaftSection
    liveness: LivenessSection
    scheduling: SchedulingSection
    agent: AgentSection
    store: StoreSection
    log: LogSection
    peers: tuple[PeerRow, ...]
    clients: tuple[ClientRow, ...] = ()

    @property
    def me(self) -> PeerRow:
        """This node's own row."""
        return next(peer for peer in self.peers if peer.name == self.node.name)

    @property
    def managers(self) -> tuple[PeerRow, ...]:
        """The nodes that run Raft."""
        return tuple(peer for peer in self.peers if peer.role is NodeRole.MANAGER)

    @property
    def key_file(self) -> Path:
        """Where this node's key pair lies."""
        return self.mesh.key_file or self.node.data_dir / "node.key"


# --- a client's context ---------------------------------------------------------------------------


@frozen(kw_only=True)
class ClientSection:
    """[client]: who the client is."""

    name: str = field(validator=_is_name)
    key_file: Path = Path("client.key")


@frozen(kw_only=True)
class ManagerRow:
    """[[managers]]: one node that answers clients."""

    name: str = field(validator=_is_name)
    address: str = field(validator=_is_address)
    public_key: bytes = field(validator=_is_public_key)

    @property
    def id(self) -> NodeId:
        """The id that its key stands for."""
        return node_id_of(self.public_key)


@frozen(kw_only=True)
class ClientContext:
    """All that a client needs to reach a cluster."""

    cluster: ClusterSection
    client: ClientSection
    managers: tuple[ManagerRow, ...] = field(validator=min_len(1))


# --- loading --------------------------------------------------------------------------------------


def load_settings(file: Path, environment: Mapping[str, str]) -> Settings:
    """The node's settings from `file`, overridden by `environment`.

    :raises NotFound: if there is no such file.
    :raises Invalid: with a detail for each fault in the file and the environment.
    """
    hint = "`meshswarm config init --node NAME=HOST:PORT --out DIR` writes the files of a cluster"
    toml = TomlFile(file, environment, hint)
    settings = toml.read(Settings)
    for path, contradiction in _contradictions(settings):
        toml.fault(path, contradiction)
    toml.refuse_faults()
    return settings


def load_client_context(file: Path) -> ClientContext:
    """The client context in `file`.

    :raises NotFound: if there is no such file.
    :raises Invalid: with a detail for each fault in the file.
    """
    hint = (
        "name another with `--context PATH`; `meshswarm config init` and `meshswarm dev` write one"
    )
    return TomlFile(file, {}, hint).read(ClientContext)


def _contradictions(settings: Settings) -> Iterator[tuple[str, str]]:
    """Where and why settings that are fine by themselves do not go together."""
    raft, liveness = settings.raft, settings.liveness
    if raft.election_timeout_ms < 5 * raft.heartbeat_ms:
        yield (
            "raft.election_timeout_ms",
            f"must be at least five heartbeats ({5 * raft.heartbeat_ms} ms), or one lost packet "
            f"deposes a leader: {raft.election_timeout_ms}",
        )
    if not liveness.beat_ms < liveness.suspect_ms < liveness.down_ms:
        yield "liveness.down_ms", "must be above `suspect_ms`, and that above `beat_ms`"
    if liveness.storm_after_ms < liveness.down_ms:
        yield "liveness.storm_after_ms", "must not be below `down_ms`: the brake only holds back"
    if liveness.flap_max_ms < liveness.flap_first_ms:
        yield "liveness.flap_max_ms", "must not be below `flap_first_ms`"
    for number, peer in enumerate(settings.peers):
        if peer.role is NodeRole.MANAGER and not peer.address:
            yield f"peers[{number}].address", f"is required: `{peer.name}` is a manager"
    if not settings.managers:
        yield "peers", "must hold at least one manager"
    if settings.node.name not in {peer.name for peer in settings.peers}:
        yield "node.name", f"must be the name of one of the peers: {settings.node.name!r}"
    yield from _repeated(settings)


def _repeated(settings: Settings) -> Iterator[tuple[str, str]]:
    """Names, addresses and keys that stand twice where each may stand once."""
    rows: list[tuple[str, PeerRow | ClientRow]] = [
        *((f"peers[{number}]", peer) for number, peer in enumerate(settings.peers)),
        *((f"clients[{number}]", client) for number, client in enumerate(settings.clients)),
    ]
    seen: dict[object, str] = {}
    for path, row in rows:
        for key in ("name", "address", "public_key"):
            value = getattr(row, key, "")
            first = seen.setdefault((key, value), path)
            if value and first != path:
                yield f"{path}.{key}", f"is that of {first} already"
