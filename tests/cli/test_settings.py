"""Settings: config/node.toml tells the truth, and every fault is told at once, with its line."""

import contextlib
import json
import tempfile
import tomllib
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshswarm import client, node, settings
from meshswarm.errors import Conflict, Denied, Invalid, NotFound
from meshswarm.model.node import NodeRole
from meshswarm.model.service import RuntimeKind
from meshswarm.settings import Settings, load_client_context, load_settings

NODE_TOML = Path(__file__).parents[2] / "config" / "node.toml"
SECTIONS = [field for field in attrs.fields(Settings) if field.name not in ("peers", "clients")]

KEY = "0" * 39
LEAST = f"""\
[cluster]
id = "c1"
[node]
name = "a"
[[peers]]
name = "a"
address = "127.0.0.1:4747"
public_key = "{KEY}1"
"""


def load(folder: Path, text: str, **environment: str) -> Settings:
    file = folder / "node.toml"
    file.write_text(text)
    return load_settings(file, environment)


def faults(folder: Path, text: str, **environment: str) -> tuple[str, ...]:
    with pytest.raises(Invalid) as caught:
        load(folder, text, **environment)
    return caught.value.details


# --- the annotated file ---------------------------------------------------------------------------


@pytest.mark.parametrize("section", [field.name for field in SECTIONS])
def test_node_toml_shows_every_setting(section: str) -> None:
    kind = attrs.fields_dict(Settings)[section].type
    assert kind is not None
    assert tomllib.loads(NODE_TOML.read_text())[section].keys() == attrs.fields_dict(kind).keys()


def test_node_toml_shows_the_defaults(tmp_path: Path) -> None:
    least = load(tmp_path, LEAST)
    annotated = load_settings(NODE_TOML, {})

    required = {"cluster": {"id": "c1"}, "node": {"name": "a"}}
    for section in (field.name for field in SECTIONS):
        shown = attrs.evolve(getattr(annotated, section), **required.get(section, {}))
        assert getattr(least, section) == shown


def test_node_toml_shows_every_key_of_a_row() -> None:
    rows = tomllib.loads(NODE_TOML.read_text())
    assert rows["peers"][0].keys() == attrs.fields_dict(settings.PeerRow).keys()
    assert rows["clients"][0].keys() == attrs.fields_dict(settings.ClientRow).keys()


# --- what is read ---------------------------------------------------------------------------------


def test_the_least_file_is_enough(tmp_path: Path) -> None:
    loaded = load(tmp_path, LEAST)
    assert loaded.me.role is NodeRole.MANAGER
    assert loaded.managers == (loaded.me,)
    assert loaded.key_file == Path("/var/lib/meshswarm/node.key")


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    loaded = load(
        tmp_path, LEAST.replace("[[peers]]", 'data_dir = "a"\n[mesh]\nkey_file = "k"\n[[peers]]')
    )
    assert loaded.node.data_dir == tmp_path / "a"
    assert loaded.key_file == tmp_path / "k"


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        LEAST + "[raft]\nheartbeat_ms = 70\n",
        MESHSWARM_RAFT_HEARTBEAT_MS="50",
        MESHSWARM_AGENT_RUNTIMES="process, docker",
        MESHSWARM_NODE_LABELS="disk=ssd,rack=",
        MESHSWARM_RAFT_SHALLOW_SLEEP="false",
        MESHSWARM_SCHEDULING_REBALANCE="true",
        MESHSWARM_NODE_DATA_DIR="/elsewhere",
        MESHSWARM_CONTEXT="not a setting, but the client's",
    )
    assert loaded.raft.heartbeat_ms == 50
    assert loaded.agent.runtimes == (RuntimeKind.PROCESS, RuntimeKind.DOCKER)
    assert loaded.node.labels == {"disk": "ssd", "rack": ""}
    assert loaded.node.data_dir == Path("/elsewhere")
    assert not loaded.raft.shallow_sleep
    assert loaded.scheduling.rebalance


@pytest.mark.parametrize("section", ["raft", "liveness", "store"])
def test_every_setting_of_the_seat_reaches_it(tmp_path: Path, section: str) -> None:
    usual = load(tmp_path, LEAST)
    values = attrs.asdict(getattr(usual, section))
    # Numbers one more than usual: in range, and in the order that they must have.
    wanted = {name: not value if value is True else value + 1 for name, value in values.items()}
    lines = [f"[{section}]", *(f"{name} = {json.dumps(wanted[name])}" for name in wanted)]
    made = node._cluster_settings(load(tmp_path, LEAST + "\n".join(lines)))
    found = {**attrs.asdict(made), **attrs.asdict(made.liveness)}
    assert wanted == {name: found[name] for name in wanted}


# --- what is refused ------------------------------------------------------------------------------


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = """\
[cluster]
[node]
name = "a b"
[raft]
heartbeat_ms = 5
hartbeat_ms = 100
election_timeout_ms = "1s"
[agent]
runtimes = ["docker", "podman"]
max_parallel_starts = true
[rafts]
[[peers]]
name = "a"
address = "nowhere"
public_key = "short"
"""
    assert faults(tmp_path, text, MESHSWARM_STORE_MIN_FREE_BYTES="lots") == (
        "node.toml:11: `rafts` is not a setting; did you mean `raft`?",
        "node.toml:1: `cluster.id` is required",
        "node.toml:3: `node.name` must be 1 to 63 letters, digits, `-`, `_` and `.`, "
        "with a letter or digit first: 'a b'",
        "node.toml:6: `raft.hartbeat_ms` is not a setting; did you mean `heartbeat_ms`?",
        "node.toml:5: `raft.heartbeat_ms` must be >= 10: 5",
        "node.toml:7: `raft.election_timeout_ms` must be a whole number: '1s'",
        "node.toml:9: `agent.runtimes` must be one of `docker`, `process`: 'podman'",
        "node.toml:10: `agent.max_parallel_starts` must be a whole number: True",
        "$MESHSWARM_STORE_MIN_FREE_BYTES: `store.min_free_bytes` must be a whole number: 'lots'",
        "node.toml:15: `peers[0].public_key` must be the 40 characters of a key file's `public`",
        "node.toml:14: `peers[0].address` must be HOST:PORT: 'nowhere'",
    )


@pytest.mark.parametrize(
    ("addition", "fault"),
    [
        (
            "[raft]\nheartbeat_ms = 300\n",
            "node.toml:9: `raft.election_timeout_ms` must be at least five heartbeats (1500 ms), "
            "or one lost packet deposes a leader: 1000",
        ),
        (
            "[liveness]\nsuspect_ms = 900\n",
            "node.toml:9: `liveness.down_ms` must be above `suspect_ms`, and that above `beat_ms`",
        ),
        (
            f'[[peers]]\nname = "b"\naddress = "127.0.0.1:4747"\npublic_key = "{KEY}2"\n',
            "node.toml:11: `peers[1].address` is that of peers[0] already",
        ),
        (
            f'[[peers]]\nname = "a"\nrole = "worker"\npublic_key = "{KEY}2"\n',
            "node.toml:10: `peers[1].name` is that of peers[0] already",
        ),
        (
            f'[[clients]]\nname = "c"\npublic_key = "{KEY}1"\n',
            "node.toml:11: `clients[0].public_key` is that of peers[0] already",
        ),
        (
            f'[[peers]]\nname = "b"\npublic_key = "{KEY}2"\n',
            "node.toml:9: `peers[1].address` is required: `b` is a manager",
        ),
    ],
)
def test_contradictions_are_faults(tmp_path: Path, addition: str, fault: str) -> None:
    assert faults(tmp_path, LEAST + addition) == (fault,)


def test_a_log_entry_holds_what_a_client_sends_together(tmp_path: Path) -> None:
    """Else commands that fit one by one are refused because they were proposed at once."""
    least = 2 * client.MAX_TOGETHER_BYTES
    assert (
        load(tmp_path, f"{LEAST}[raft]\nmax_append_bytes = {least}").raft.max_append_bytes == least
    )
    (told,) = faults(tmp_path, f"{LEAST}[raft]\nmax_append_bytes = {least - 1}")
    assert f"must be >= {least}" in told


def test_the_node_must_be_one_of_the_peers(tmp_path: Path) -> None:
    assert faults(tmp_path, LEAST, MESHSWARM_NODE_NAME="b") == (
        "$MESHSWARM_NODE_NAME: `node.name` must be the name of one of the peers: 'b'",
    )


def test_a_cluster_has_a_manager(tmp_path: Path) -> None:
    assert faults(tmp_path, LEAST + 'role = "worker"\n') == (
        "node.toml: `peers` must hold at least one manager",
    )


def test_unknown_variables_of_a_section_are_faults(tmp_path: Path) -> None:
    assert faults(tmp_path, LEAST, MESHSWARM_RAFT_HEARTBEAT="50") == (
        "$MESHSWARM_RAFT_HEARTBEAT: `raft.heartbeat` is not a setting; "
        "did you mean `heartbeat_ms`?",
    )


def test_a_variable_that_names_almost_a_section_is_a_fault(tmp_path: Path) -> None:
    assert faults(tmp_path, LEAST, MESHSWARM_RAFTT_HEARTBEAT_MS="50", MESHSWARM_TASK_ID="t1") == (
        "$MESHSWARM_RAFTT_HEARTBEAT_MS: no section `raftt`; "
        "did you mean MESHSWARM_RAFT_HEARTBEAT_MS?",
    )


def test_wrong_shapes_are_faults(tmp_path: Path) -> None:
    text = 'cluster = 4\npeers = 3\n[node]\nname = "a"\nlabels = {disk = 1}\n[mesh]\nlisten = 1\n'
    assert faults(tmp_path, text) == (
        "node.toml:1: `cluster` must be a table: 4",
        "node.toml:5: `node.labels` must be a table of texts: {'disk': 1}",
        "node.toml:7: `mesh.listen` must be a text: 1",
        "node.toml:2: `peers` must be rows, each under `[[peers]]`: 3",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = ", "not valid TOML: Invalid value"),
        (b"a = " + b"[" * 100_000, "not valid TOML: maximum recursion"),
        (b"a = " + b"9" * 10_000, "not valid TOML: Exceeds the limit"),
        (b"\xff", "not UTF-8"),
        (b"#" * (1 << 20) + b"\n", "larger than 1048576 bytes"),
    ],
)
def test_what_is_no_settings_file(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "node.toml"
    file.write_bytes(content)
    with pytest.raises(Invalid, match=message):
        load_settings(file, {})


@given(
    value=st.sampled_from(["-1", "true", '""', "[]", "[[]]", "{}", "1.5", "nan", "1979-05-27"])
    | st.integers(-(2**70), 2**70).map(hex)
)
@pytest.mark.parametrize("section", [field.name for field in attrs.fields(Settings)])
def test_any_value_anywhere_is_read_or_refused(section: str, value: str) -> None:
    """Nothing but a value or `Invalid` comes of a file that is valid TOML."""
    kind = attrs.fields_dict(Settings)[section].type
    assert kind is not None
    keys = attrs.fields_dict(kind) if attrs.has(kind) else ("name", "public_key")
    lines = [f"{section} = {value}", *(f"{section}.{key} = {value}" for key in keys)]
    for line in lines:
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Invalid):
            load(Path(folder), f"{line}\n{LEAST}")


def test_a_missing_file_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="config init"):
        load_settings(tmp_path / "node.toml", {})


# --- the client's context -------------------------------------------------------------------------

CONTEXT = f"""\
[cluster]
id = "c1"
[client]
name = "admin"
[[managers]]
name = "a"
address = "127.0.0.1:4747"
public_key = "{KEY}1"
"""


def test_a_client_context(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text(CONTEXT)
    context = load_client_context(file)
    assert context.client.key_file == tmp_path / "client.key"
    assert [manager.address for manager in context.managers] == ["127.0.0.1:4747"]


def test_a_client_context_without_managers(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text(CONTEXT.partition("[[managers]]")[0])
    with pytest.raises(Invalid) as caught:
        load_client_context(file)
    assert caught.value.details == ("client.toml: `managers` is required",)


# --- the unit -------------------------------------------------------------------------------------


def test_systemd_does_not_start_again_what_a_person_must_mend_first() -> None:
    """A node whose identity another one took would take it back, and so on for ever."""
    unit = (NODE_TOML.parent / "meshswarm.service").read_text().splitlines()
    [line] = [line for line in unit if line.startswith("RestartPreventExitStatus=")]
    kinds = (Invalid, Denied, NotFound, Conflict)
    assert [2, *(kind.exit_code for kind in kinds)] == [int(n) for n in line[25:].split()]
