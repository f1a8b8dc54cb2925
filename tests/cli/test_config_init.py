"""`config init` writes files that `node start` and clients read back, and destroys none."""

import stat
from pathlib import Path

import pytest

from meshswarm.cli.main import main
from meshswarm.ids import NodeId
from meshswarm.mesh import keys
from meshswarm.model.node import NodeRole
from meshswarm.settings import load_client_context, load_settings

Capture = pytest.CaptureFixture[str]


def init(out: Path, *more: str, nodes: tuple[str, ...] = ("n1=10.0.0.1:4747",)) -> int:
    named = [text for node in nodes for text in ("--node", node)]
    return main(["config", "init", *named, "--out", str(out), *more])


def test_every_node_and_the_client_find_each_other(tmp_path: Path, capsys: Capture) -> None:
    nodes = ("n1=10.0.0.1:4747", "n2=10.0.0.2:4747", "n3=[::1]:4748")
    assert init(tmp_path, "--worker", "edge", nodes=nodes) == 0
    loaded = {
        name: load_settings(tmp_path / f"{name}.toml", {}) for name in ("n1", "n2", "n3", "edge")
    }
    context = load_client_context(tmp_path / "client.toml")
    assert len({settings.peers for settings in loaded.values()}) == 1
    for name, settings in loaded.items():
        pair = keys.load(settings.key_file)
        assert (settings.node.name, settings.me.id) == (name, NodeId(pair.id))
        assert settings.cluster == context.cluster
    assert loaded["edge"].me.role is NodeRole.WORKER
    assert [row.name for row in context.managers] == ["n1", "n2", "n3"]
    own = keys.load(context.client.key_file)
    assert [row.public_key for row in loaded["n1"].clients] == [own.public]
    listens = [settings.mesh.listen for settings in loaded.values()]
    assert listens[:3] == ["0.0.0.0:4747", "0.0.0.0:4747", "[::1]:4748"]
    files = capsys.readouterr().out.split()
    assert sorted(files) == sorted(str(path) for path in tmp_path.iterdir())


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    assert init(tmp_path) == 0
    assert {stat.S_IMODE(key.stat().st_mode) for key in tmp_path.glob("*.key")} == {0o600}


def test_nodes_of_one_host_have_data_directories_of_their_own(tmp_path: Path) -> None:
    assert init(tmp_path, nodes=("a=127.0.0.1:1", "b=127.0.0.2:1", "c=localhost:2")) == 0
    data = [load_settings(tmp_path / f"{name}.toml", {}).node.data_dir for name in "abc"]
    assert data == [tmp_path / "a.data", tmp_path / "b.data", tmp_path / "c.data"]


def test_what_cannot_be_written_is_said_once(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    assert init(tmp_path / "file") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: cannot write here: File exists\n")


def test_nothing_is_overwritten_unless_forced(tmp_path: Path, capsys: Capture) -> None:
    assert init(tmp_path) == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert init(tmp_path) == 6
    assert "--force" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert init(tmp_path, "--force") == 0
    assert before[tmp_path / "n1.key"] != (tmp_path / "n1.key").read_bytes()


@pytest.mark.parametrize(
    ("nodes", "exit_code"),
    [
        (("n1",), 2),
        (("n1=host",), 2),
        (("n1=host:99999",), 3),
        (("n 1=host:1",), 3),
        (("n1=host:1", "n1=host:2"), 3),
        (("n1=host:1", "n2=host:1"), 3),
        (("client=host:1",), 3),
    ],
)
def test_what_is_no_node_is_refused(
    tmp_path: Path, capsys: Capture, nodes: tuple[str, ...], exit_code: int
) -> None:
    assert init(tmp_path, nodes=nodes) == exit_code
    assert capsys.readouterr().err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []
