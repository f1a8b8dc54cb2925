"""`meshswarm config` and `meshswarm secret`, and the files of a stack in `deploy`."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from meshswarm.cli.main import main
from meshswarm.model.file import FileKind, FileUse
from meshswarm.store.commands import PutService
from tests.support.builders import service_spec
from tests.support.fake_cluster import FakeClient, cluster_of, then

SECRET = "s3cr3t-value"


@pytest.fixture
def client() -> FakeClient:
    return FakeClient(cluster_of("n1"))


def as_json(client: FakeClient, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "-o", "json"], client.connect) == 0
    return json.loads(capsys.readouterr().out)


def use(client: FakeClient, kind: FileKind, source: str) -> None:
    """Let the service `web` use it."""
    use = FileUse(kind=kind, source=source, target="x")
    client.view = then(client.view, PutService(spec=service_spec("web", files=(use,))))


@pytest.mark.parametrize(("kind", "most"), [("config", 1_000_000), ("secret", 500_000)])
def test_what_is_too_large_is_told_with_the_limit(
    client: FakeClient, capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str, most: int
) -> None:
    file = tmp_path / "big"
    file.write_bytes(bytes(2_000_000))
    assert main([kind, "create", "motd", str(file)], client.connect) == 3
    said = capsys.readouterr().err
    assert f"error: {kind} motd holds 2000000 bytes; at most {most} are kept\n" in said
    assert not client.proposed


def test_an_empty_secret_is_taken_for_the_accident_that_it_is(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["secret", "create", "pw", "--literal", ""], client.connect) == 3
    assert "error: secret pw would be empty\n" in capsys.readouterr().err
    assert main(["config", "create", "motd", "--literal", ""], client.connect) == 0


def test_a_config_is_made_shown_changed_and_removed(
    client: FakeClient, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "motd"
    file.write_text("hello")
    arguments = ("config", "create", "motd", str(file), "-l", "a=b")
    assert [{"name": "motd", "effect": "created"}] == as_json(client, capsys, *arguments)
    [row] = as_json(client, capsys, "config", "ls")
    assert ("motd", 5, {"a": "b"}, []) == (row["name"], row["bytes"], row["labels"], row["used_by"])
    assert "hello" == as_json(client, capsys, "config", "inspect", "motd")["data"]
    as_json(client, capsys, "config", "update", "motd", "--literal", "ciao", "--label-rm", "a")
    shown = as_json(client, capsys, "config", "inspect", "motd")
    assert ("ciao", {}) == (shown["data"], shown["labels"])
    assert [{"name": "motd", "effect": "removed"}] == as_json(
        client, capsys, "config", "rm", "motd"
    )
    assert main(["config", "inspect", "motd"], client.connect) == 5


def test_a_secret_is_never_shown(
    client: FakeClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(SECRET.encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["secret", "create", "db", "-"], client.connect) == 0
    use(client, FileKind.SECRET, "db")
    for arguments in (
        ["ls"],
        ["inspect", "db"],
        ["create", "db", "--literal", SECRET],
        ["rm", "db"],
    ):
        for form in ("table", "wide", "json", "yaml"):
            main(["secret", *arguments, "-o", form], client.connect)
    main(["service", "inspect", "web", "-o", "json"], client.connect)
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    assert client.view.secrets["db"].digest.hex() not in said.out
    assert "secret db is in use by web" in said.err


def test_other_content_is_rolled_out_to_who_uses_it(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["config", "create", "motd", "--literal", "one"], client.connect)
    use(client, FileKind.CONFIG, "motd")
    capsys.readouterr()
    update = ("config", "update", "motd", "--literal", "two", "--detach")
    assert [
        {"name": "motd", "effect": "updated"},
        {"name": "web", "effect": "updated"},
    ] == as_json(client, capsys, *update)
    [row] = as_json(client, capsys, "config", "ls")
    assert (["web"], 1) == (row["used_by"], row["kept"])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["create", "motd"], 2, "name a FILE"),
        (["create", "motd", "f", "--literal", "x"], 2, "name a FILE"),
        (["create", "a/b", "--literal", "x"], 2, "no name"),
        (["create", "motd", "nope"], 5, "there is no file nope"),
        (["create", "there", "--literal", "x"], 6, "config update there FILE"),
        (["create", "motd", "--literal", "x", "-l", "io.meshswarm.a=b"], 2, "meshswarm's own"),
        (["update", "there"], 2, "name a file, or labels"),
        (["update", "nope", "--literal", "x"], 5, "meshswarm config ls"),
        (["update", "there", "--label-rm", "x"], 2, "there is no 'x'"),
        (["rm", "nope"], 5, "there is no config 'nope'"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str],
    code: int,
    said: str,
    client: FakeClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["config", "create", "there", "--literal", "x"], client.connect)
    assert code == main(["config", *arguments], client.connect)
    assert said in capsys.readouterr().err


# --- deploy -----------------------------------------------------------------------------------

STACK = """
name: shop
services:
  web:
    command: sleep 1000
    x-meshswarm: {{runtime: process}}
    configs: [app]
    secrets: [db]
configs: {{app: {{content: {content}}}}}
secrets: {{db: {{content: {secret}}}}}
"""


def deploy(client: FakeClient, folder: Path, content: str = "one", secret: str = SECRET) -> int:
    file = folder / "compose.yml"
    file.write_text(STACK.format(content=content, secret=secret))
    return main(["deploy", str(file), "--detach"], client.connect)


def revision(client: FakeClient) -> int:
    row = client.view.service_named("shop_web")
    assert row is not None
    return row.revision


def test_what_a_stack_defines_comes_and_goes_with_it(
    client: FakeClient, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert deploy(client, tmp_path) == 0
    assert b"one" == client.view.configs["shop_app"].data
    assert {"io.meshswarm.stack": "shop"} == client.view.secrets["shop_db"].labels
    assert main(["stack", "rm", "shop", "--detach"], client.connect) == 0
    assert (0, 0) == (len(client.view.configs), len(client.view.secrets))


def test_only_other_content_is_another_revision(client: FakeClient, tmp_path: Path) -> None:
    for content, secret, number in (("a", "s", 1), ("a", "s", 1), ("b", "s", 2), ("b", "t", 3)):
        assert deploy(client, tmp_path, content, secret) == 0
        assert number == revision(client)


def test_a_deploy_says_nothing_of_a_secret(
    client: FakeClient, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    deploy(client, tmp_path)
    main(["deploy", str(tmp_path / "compose.yml"), "--dry-run"], client.connect)
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err


def test_a_stack_takes_nobodys_config(
    client: FakeClient, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    main(["config", "create", "shop_app", "--literal", "mine"], client.connect)
    assert deploy(client, tmp_path) == 6
    assert (
        "there is a config shop_app already, and it is not stack shop's" in capsys.readouterr().err
    )
    assert b"mine" == client.view.configs["shop_app"].data


def test_a_deploy_that_was_cut_short_is_taken_up_again(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(client, tmp_path)
    stacks = client.view.stacks
    object.__setattr__(client.view, "stacks", stacks.delete("shop"))
    assert deploy(client, tmp_path, "two") == 0
    assert b"two" == client.view.configs["shop_app"].data
