"""Configs and secrets in a Compose file: what is defined, and how services use it."""

import textwrap
from typing import Any

import pytest

from meshswarm.compose.files import Content
from meshswarm.compose.load import Loaded
from meshswarm.errors import Invalid
from meshswarm.model.file import FileKind, FileUse, Reload
from tests.compose.loading import loaded

FILES: dict[str, str | bytes] = {"app.conf": "a=1", "password": b"\x00pass"}
DEFINED = """
configs:
  app: {file: app.conf}
  motd: {content: "hello $WHO", labels: {a: b}}
  own: {content: x, name: own_name}
  given: {external: true}
  other: {external: true, name: elsewhere}
secrets:
  db: {file: ./password}
  token: {environment: TOKEN}
"""


def of(service: str, defined: str = DEFINED, image: str = "image: x") -> Loaded:
    """A file whose only service `a` has these lines."""
    text = f"services:\n  a:\n    {image}\n{textwrap.indent(service, '    ')}\n{defined}"
    return loaded(text, files=FILES, environment={"WHO": "you", "TOKEN": "t0k"})


def uses(service: str, image: str = "image: x") -> tuple[FileUse, ...]:
    return of(service, image=image).spec.services[0].task.files


def faults(service: str, defined: str = DEFINED, image: str = "image: x") -> list[str]:
    with pytest.raises(Invalid) as refused:
        of(service, defined, image)
    return list(refused.value.details)


def config(source: str, target: str, **fields: Any) -> FileUse:
    return FileUse(kind=FileKind.CONFIG, source=source, target=target, **fields)


def secret(source: str, target: str, **fields: Any) -> FileUse:
    return FileUse(kind=FileKind.SECRET, source=source, target=target, **fields)


def test_content_comes_from_a_file_a_variable_or_the_text() -> None:
    made = of("")
    assert (
        Content(kind=FileKind.CONFIG, name="p_app", data=b"a=1", labels={}),
        Content(kind=FileKind.CONFIG, name="p_motd", data=b"hello you", labels={"a": "b"}),
        Content(kind=FileKind.CONFIG, name="own_name", data=b"x", labels={}),
        Content(kind=FileKind.SECRET, name="p_db", data=b"\x00pass", labels={}),
        Content(kind=FileKind.SECRET, name="p_token", data=b"t0k", labels={}),
    ) == made.files
    assert ("p_app", "p_motd", "own_name") == made.spec.configs
    assert ("p_db", "p_token") == made.spec.secrets
    assert "t0k" not in repr(made)


def test_names_alone_have_the_targets_of_compose() -> None:
    assert (
        config("p_app", "/app"),
        config("given", "/given"),
        config("elsewhere", "/other"),
        secret("p_db", "/run/secrets/db"),
    ) == uses("configs: [app, given, other]\nsecrets: [db]")


def test_mappings_say_where_and_whose() -> None:
    written = """
configs: [{source: app, target: /etc/app.conf, uid: "103", gid: 7, mode: 0440}]
secrets: [{source: db, target: pw, mode: "0400"}, {source: token, target: /etc/../token}]
"""
    assert (
        config("p_app", "/etc/app.conf", uid=103, gid=7, mode=0o440),
        secret("p_db", "/run/secrets/pw", mode=0o400),
        secret("p_token", "/token"),
    ) == uses(written)


def test_a_process_has_them_by_mere_names() -> None:
    process = "x-meshswarm: {runtime: process}\n    command: x"
    written = "configs: [app, {source: motd, target: m}]\nsecrets: [db, {source: token, target: m}]"
    assert ["app", "m", "db", "m"] == [use.target for use in uses(written, process)]
    [fault] = faults("configs: [{source: app, target: /etc/app}]", image=process)
    assert fault.endswith("a process has its configs in $MESHSWARM_CONFIGS_DIR: write a mere name")


def test_other_content_may_come_in_place() -> None:
    written = "configs: [app]\nx-meshswarm: {on_config_change: {signal: hup}}"
    for word, signal in (("SIGHUP", "SIGHUP"), ("none", "")):
        [service] = of(written.replace("hup", word)).spec.services
        assert Reload(signal=signal) == service.task.reload
    [warning] = of("x-meshswarm: {on_config_change: {signal: none}}").warnings
    assert "means nothing" in warning


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("configs: [nope]", "there is no `nope` under the file's own `configs`"),
        ("secrets: [app]", "there is no `app` under the file's own `secrets`"),
        ("configs: [{target: x}]", "needs a `source`: which config it is"),
        ("configs: [app, {source: motd, target: /app}]", "is at /app, where line"),
        ("configs: [{source: app, mode: 999}]", "must be permission bits such as 0440"),
        ("configs: [{source: app, mode: '0999'}]", "must be permission bits such as 0440"),
        ("configs: [{source: app, uid: root}]", "must be a number such as 1000"),
        ("configs: [{source: app, sauce: x}]", "unknown key"),
        ("x-meshswarm: {on_config_change: {signal: NO}}\nconfigs: [app]", "signal"),
        ("x-meshswarm: {on_config_change: {}}\nconfigs: [app]", "needs a `signal`"),
    ],
)
def test_what_a_service_says_wrong(service: str, said: str) -> None:
    told = faults(service)
    assert any(said in fault for fault in told), told


@pytest.mark.parametrize(
    ("defined", "said"),
    [
        ("{file: nope}", "configs.c.file: there is no file `nope`"),
        ("{environment: NOPE}", "configs.c.environment: the variable NOPE is not set"),
        ("{}", "configs.c: needs file, environment or content, or external: true"),
        ("{file: app.conf, content: x}", "has more than one, and needs just one, of file"),
        ("{external: true, file: app.conf}", "an external one is not made here"),
        ("{content: x, name: a/b}", "`a/b` is no name"),
        ("{content: x, template_driver: golang}", "not supported yet"),
        ("{content: x, driver: vault}", "not supported: the cluster itself keeps it"),
        (f"{{content: {'x' * 1_000_001}}}", "has 1000001 bytes; a config has at most 1000000"),
    ],
)
def test_what_a_definition_says_wrong(defined: str, said: str) -> None:
    told = faults("", f"configs:\n  c: {defined}\n")
    assert any(said in fault for fault in told), told
