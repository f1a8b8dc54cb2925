"""The command tree as a whole: help, start-up weight, which cluster is meant, completion."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from meshswarm.cli.complete import complete_node, complete_service, complete_task
from meshswarm.cli.elsewhere import OF_OTHERS
from meshswarm.cli.main import app, main
from meshswarm.cli.options import Options
from meshswarm.cli.reach import context_file, dev_record
from meshswarm.errors import NotFound, Unavailable
from meshswarm.model.task import TaskState
from tests.support.fake_cluster import FakeClient, cluster_of, stack, with_stack, with_task

HEAVY = ("asyncio", "zmq", "docker", "cattrs", "ruamel", "rich", "immutables")


def commands() -> Iterator[tuple[str, str]]:
    """(path, help) of every command that does something."""
    waiting = [("meshswarm", get_command(app))]
    while waiting:
        path, command = waiting.pop()
        below = getattr(command, "commands", {})
        waiting += [(f"{path} {name}", child) for name, child in below.items()]
        if not below or path == "meshswarm dev":
            yield path, command.help or ""


@pytest.mark.parametrize(("path", "text"), sorted(commands()))
def test_every_command_shows_an_example_of_itself(path: str, text: str) -> None:
    assert f"Example: `{path}" in text


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from meshswarm.cli.main import main; main(['--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from meshswarm import __version__

    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_which_cluster_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named one, else this host's dev cluster, else the user's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with pytest.raises(NotFound) as refused:
        context_file(None)
    assert "meshswarm dev" in (refused.value.hint or "")
    users = tmp_path / "config" / "meshswarm" / "client.toml"
    users.parent.mkdir(parents=True)
    users.touch()
    assert context_file(None) == users
    dev = tmp_path / "dev" / "client.toml"
    dev_record().parent.mkdir(parents=True)
    dev_record().write_text(f"{dev}\n")
    assert context_file(None) == users, "the recorded dev cluster is gone"
    dev.parent.mkdir()
    dev.touch()
    assert context_file(None) == dev
    assert context_file(tmp_path / "other.toml") == tmp_path / "other.toml"


def test_names_are_completed_and_trouble_is_silent() -> None:
    client = FakeClient(with_stack(cluster_of("n1"), stack("shop", web=1, api=1)))
    root = typer.Context(get_command(app), obj=Options(connect=client.connect))
    root.params["context"] = "other.toml"  # a text: nothing is converted before the prompt is done
    assert complete_service(root, "shop_w") == ["shop_web"]
    assert client.contexts == [Path("other.toml")]
    client.unreachable = Unavailable("no quorum")
    assert complete_service(root, "shop_w") == []


def test_tasks_are_completed_by_service_slot_and_id() -> None:
    view = with_stack(cluster_of("n1"), stack("shop", web=2))
    view = with_task(view, "shop_web", 1, "n1", TaskState.RUNNING)
    view = with_task(view, "shop_web", 2, "n1", TaskState.FAILED)
    client = FakeClient(view)
    root = typer.Context(get_command(app), obj=Options(connect=client.connect))
    assert ["shop_web", "shop_web.1"] == complete_task(root, "")
    assert ["shop_web.1"] == complete_task(root, "shop_web.")
    (running,) = [t.id for t in view.tasks.values() if t.status.state is TaskState.RUNNING]
    assert [running] == complete_task(root, running[:2])


def test_a_prompt_hangs_no_longer_than_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshswarm.cli.complete.PATIENCE_S", 0.0)
    client = FakeClient(cluster_of("n1"))
    monkeypatch.setattr(client, "read", lambda *_: asyncio.Event().wait())
    root = typer.Context(get_command(app), obj=Options(connect=client.connect))
    assert [] == complete_node(root, "")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("logs", "meshswarm stack logs; meshswarm service logs; meshswarm job logs"),
        ("service exec", "meshswarm exec"),
        ("service create", "meshswarm deploy FILE"),
        ("swarm", "meshswarm config init --help"),
        ("service lst", "meshswarm service --help"),
        ("zebra", "meshswarm --help"),
    ],
)
def test_a_command_that_is_another_one_here_is_answered_with_that_one(
    capsys: pytest.CaptureFixture[str], typed: str, hint: str
) -> None:
    assert main(typed.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: No such command '")
    assert said.endswith(f" hint: {hint}\n")


@pytest.mark.parametrize(("typed", "meant"), OF_OTHERS.items())
def test_the_words_of_other_tools_lead_to_commands_that_there_are(typed: str, meant: str) -> None:
    paths = {path for path, _ in commands()}
    groups = {path.rpartition(" ")[0] for path in paths}
    assert f"meshswarm {typed}" not in paths
    words = [word for word in meant.split() if word.islower() and not word.startswith("-")]
    words = [word for word in words if "=" not in word]
    assert " ".join(words) in paths | groups


def test_an_option_without_its_value_leads_to_the_help_of_its_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["service", "update", "shop_web", "--image"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "error: Option '--image' requires an argument.\n hint: meshswarm service update --help\n"
    )


def test_nothing_asked_for_is_answered_with_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Usage: meshswarm [OPTIONS] COMMAND")
    assert "hint" not in said
