import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshswarm import codec
from meshswarm.compose.load import load
from meshswarm.errors import Invalid
from meshswarm.model.network import NetworkUse, Port
from meshswarm.model.placement import Affinity, Placement, Strategy
from meshswarm.model.resources import DeviceRequest, Resources
from meshswarm.model.rollout import UpdatePolicy
from meshswarm.model.service import (
    Comparison,
    Constraint,
    HealthCheck,
    Mode,
    RestartCondition,
    RestartPolicy,
    RuntimeKind,
    ServiceSpec,
    TaskSpec,
)
from meshswarm.model.stack import StackSpec
from meshswarm.model.volume import Mount, MountKind
from tests.compose.loading import in_service, loaded, service

FULL = """\
name: shop
x-common: &common
  image: nginx:${TAG:-1.27}
services:
  web:
    <<: *common
    command: serve --root "/srv/my site"
    entrypoint: [tini, --]
    env_file: web.env
    environment: {MODE: prod, HOME_PAGE: , UNSET: , DEBUG: false}
    working_dir: /srv
    user: "1000:1000"
    labels: {team: shop}
    ports: [{target: 80, published: 8080, mode: host}]
    volumes: [data:/data:ro, ./conf:/etc/conf, {type: tmpfs, target: /tmp, tmpfs: {size: 64m}}]
    healthcheck: {test: [CMD, check], interval: 5s, retries: 2}
    stop_signal: SIGINT
    stop_grace_period: 1m
    platform: linux/amd64
    deploy:
      replicas: 3
      labels: [tier=front]
      resources:
        limits: {cpus: 0.5, memory: 64m, pids: 50}
        reservations:
          memory: 32m
          generic_resources: [{discrete_resource_spec: {kind: ssd, value: 2}}]
          devices: [{capabilities: [gpu, utility], driver: nvidia, count: 1, options: {a: b}}]
      restart_policy: {condition: on-failure, delay: 2s, max_attempts: 4, window: 1m}
      placement:
        constraints: [node.labels.disk == ssd]
        preferences: [{spread: node.labels.Zone}, {spread: engine.labels.rack}]
        max_replicas_per_node: 2
    x-meshswarm:
      priority: 5
      max_unavailable: 1
      placement:
        strategy: binpack
        max_skew: 2
        affinity: [agent, {service: other_db, required: false}]
        anti_affinity: [web]
  agent:
    command: [sh, -c, "beat"]
    deploy: {mode: global}
    x-meshswarm: {runtime: process, max_unavailable: 25%}
volumes:
  data: {driver: local, driver_opts: {type: nfs}, labels: {keep: "yes"}}
"""

FULL_SPEC = StackSpec(
    name="shop",
    services=(
        ServiceSpec(
            name="shop_agent",
            stack="shop",
            mode=Mode.GLOBAL,
            max_unavailable_percent=25,
            task=TaskSpec(runtime=RuntimeKind.PROCESS, command=("sh", "-c", "beat")),
        ),
        ServiceSpec(
            name="shop_web",
            stack="shop",
            replicas=3,
            labels={"tier": "front"},
            priority=5,
            max_unavailable=1,
            task=TaskSpec(
                image="nginx:1.28",
                networks=(NetworkUse(name="shop_default"),),
                entrypoint=("tini", "--"),
                command=("serve", "--root", "/srv/my site"),
                environment={"A": "from file", "MODE": "prod", "HOME_PAGE": "/", "DEBUG": "false"},
                working_dir="/srv",
                user="1000:1000",
                labels={"team": "shop"},
                ports=(Port(target=80, published=8080),),
                mounts=(
                    Mount(
                        kind=MountKind.VOLUME,
                        source="shop_data",
                        target="/data",
                        read_only=True,
                        driver="local",
                        driver_options={"type": "nfs"},
                        labels={"keep": "yes"},
                    ),
                    Mount(kind=MountKind.BIND, source="/project/conf", target="/etc/conf"),
                    Mount(kind=MountKind.TMPFS, target="/tmp", size_bytes=64 << 20),
                ),
                healthcheck=HealthCheck(test=("CMD", "check"), interval_s=5.0, retries=2),
                stop_signal="SIGINT",
                stop_grace_period_s=60.0,
                limits=Resources(nano_cpus=500_000_000, memory_bytes=64 << 20, pids=50),
                reservations=Resources(memory_bytes=32 << 20),
                restart=RestartPolicy(
                    condition=RestartCondition.ON_FAILURE,
                    delay_s=2.0,
                    max_attempts=4,
                    window_s=60.0,
                ),
                constraints=(
                    Constraint(key="node.labels.disk", comparison=Comparison.EQUAL, value="ssd"),
                ),
                platform="linux/amd64",
                placement=Placement(
                    strategy=Strategy.BINPACK,
                    spread_over=("node.labels.Zone", "engine.labels.rack"),
                    max_skew=2,
                    max_replicas_per_node=2,
                    affinities=(
                        Affinity(service="shop_agent"),
                        Affinity(service="other_db", is_required=False),
                        Affinity(service="shop_web", is_apart=True),
                    ),
                ),
                devices=(
                    DeviceRequest(kind="ssd", count=2),
                    DeviceRequest(
                        kind="gpu",
                        count=1,
                        driver="nvidia",
                        capabilities=("gpu", "utility"),
                        options={"a": "b"},
                    ),
                ),
            ),
        ),
    ),
)


def test_every_supported_attribute_reaches_the_model() -> None:
    result = loaded(
        FULL,
        name=None,
        environment={"HOME_PAGE": "/"},
        files={".env": "TAG=1.28\nHOME_PAGE=/ignored", "web.env": "A=from file\nMODE=dev\nUNSET=1"},
    )
    assert FULL_SPEC == result.spec
    assert () == result.warnings


def told(text: str, **options: Any) -> tuple[str, ...]:
    """The faults of `text`."""
    with pytest.raises(Invalid) as error:
        loaded(text, **options)
    return error.value.details


def all_at_once(text: str) -> str:
    with pytest.raises(Invalid) as error:
        loaded(text, files={".env": "A B=1\n"})
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("all_at_once.txt", all_at_once),
        ("service.txt", lambda body: "\n".join(told(in_service(body)))),
        ("file.txt", lambda text: "\n".join(told(text))),
    ],
)
def test_faults_are_told_in_these_words(name: str, run: Callable[[str], str]) -> None:
    """`faults/NAME` holds texts and what is said of them; REWRITE=1 accepts what is said now."""
    file = Path(__file__).parent / "faults" / name
    written = file.read_text()
    texts = [block.partition("\n----\n")[0] for block in written.strip("\n").split("\n\n")]
    now = "\n\n".join(f"{text}\n----\n{run(text)}" for text in texts) + "\n"
    if os.environ.get("REWRITE"):
        file.write_text(now)
    else:
        assert written == now


def test_a_directory_whose_name_no_program_can_take() -> None:
    faults = told("services: {}", directory="/\udcff")
    assert ("compose.yml: the name of its directory is not a UTF-8 text",) == faults


def test_a_full_name_fits_into_a_dns_label() -> None:
    long = "a" * 62
    expected = f"services.{long}: `p_{long}` is longer than 63 characters; shorten it"
    assert (f"compose.yml:1: {expected}",) == told(f"services: {{{long}: {{image: x}}}}")


def test_many_faults_are_counted() -> None:
    with pytest.raises(Invalid, match=r"compose\.yml has 150 faults") as error:
        loaded("services: {}\n" + "".join(f"wrong{i}: 1\n" for i in range(150)))
    assert "and 50 more" == error.value.details[-1]
    assert 101 == len(error.value.details)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "text", "directory", "name"),
    [
        ("cli", "name: file\nservices: {}", "/dir", "cli"),
        (None, "name: ${N:-file}\nservices: {}", "/dir", "file"),
        (None, "services: {}", "/a/My Shop_1.2", "myshop_12"),
        (None, "name: ''\nservices: {}", "/_-dir/", "dir"),
    ],
)
def test_the_stacks_name(given: str | None, text: str, directory: str, name: str) -> None:
    assert name == loaded(text, name=given, directory=directory).spec.name


@pytest.mark.parametrize(
    ("given", "text", "expected"),
    [
        ("A", "services: {}", "`A` is no name for a stack"),
        (None, "name: A\nservices: {}", "name: `A` is no name for a stack"),
        (None, "name: 1\nservices: {}", "name: must be a text, not the number 1; quote it"),
        (None, "services: {}", "the directory gives no name for the stack"),
    ],
)
def test_wrong_names(given: str | None, text: str, expected: str) -> None:
    (fault,) = told(text, name=given, directory="/")
    assert fault.startswith(f"compose.yml:1: {expected}")


def test_the_stacks_name_is_a_variable() -> None:
    assert {"a": "p"} == service("labels: {a: $COMPOSE_PROJECT_NAME}").task.labels


def test_volumes_have_names_in_full() -> None:
    text = """
services: {a: {image: x, volumes: [one:/1, two:/2, three:/3, four:/4, /5]}}
volumes: {one: , two: {name: named}, three: {external: true}, four: {external: true, name: other}}
"""
    mounts = loaded(text).spec.services[0].task.mounts
    assert ["p_one", "named", "three", "other", None] == [mount.source for mount in mounts]
    assert [False, False, True, True, False] == [mount.external for mount in mounts]


# --- environment ----------------------------------------------------------------------------------


def test_complaint_10_files_of_variables_come_in_order_and_the_environment_wins() -> None:
    spec = service(
        "env_file: [one, {path: sub/two, format: raw}, {path: no, required: false}]\n"
        "environment: [C=3]",
        files={"one": "A=1\nB=1\nC=1", "sub/two": "B='2'\nC=2"},
    )
    assert {"A": "1", "B": "'2'", "C": "3"} == spec.task.environment


def test_a_name_alone_comes_from_the_process_then_from_dotenv_and_else_is_unset() -> None:
    spec = service(
        "env_file: e\nenvironment: [A, B, C]",
        environment={"A": "process"},
        files={"e": "A=file\nB=file\nC=file\nD=$B", ".env": "A=dotenv\nB=dotenv"},
    )
    assert {"A": "process", "B": "dotenv", "D": "dotenv"} == spec.task.environment


def test_faults_in_files_of_variables_have_their_own_place() -> None:
    faults = told(in_service("env_file: sub/e"), files={"sub/e": "A=1\nB='"})
    assert ("sub/e:2: a value opens with ' and is never closed",) == faults


def test_files_that_cannot_be_read_are_faults() -> None:
    def read(path: str) -> bytes | None:
        raise PermissionError(f"no: {path}")

    with pytest.raises(Invalid) as error:
        load(
            in_service("env_file: e").encode(),
            file="compose.yml", name="p", directory="/d", environment={}, read=read,
        )  # fmt: skip
    assert error.value.details == (
        "compose.yml:4: services.a.env_file: `e` cannot be read: no: /d/e",
        ".env: cannot be read: no: /d/.env",
    )


# --- warnings -------------------------------------------------------------------------------------


def test_warnings_are_told_once_with_their_first_place() -> None:
    body = (
        "labels: {a: $U, b: $U, c: 3.10}\nports: ['80']\n"
        "volumes: [{type: bind, source: /a, target: /b, consistency: cached, read_only: 'yes'}]"
    )
    text = "version: '3'\n" + in_service(body) + "  b: {image: x, ports: ['81'], labels: {d: $U}}\n"
    assert (
        "compose.yml:1: version: `version` means nothing any more and is ignored; remove it",
        "compose.yml:5: the variable U is not set; it stands for the empty text",
        "compose.yml:5: services.a.labels.c: "
        "3.10 is read as 3.1, as Compose does; quote it to keep it as it is",
        "compose.yml:6: services.a.ports: ports are published on the nodes that run the service "
        "(`mode: host`); one port on every node comes with a later release",
        "compose.yml:7: services.a.volumes[0].consistency: `consistency` has no effect on Linux",
        "compose.yml:7: services.a.volumes[0].read_only: "
        "`yes` is read as true; write true or false",
    ) == loaded(text).warnings


def test_extensions_are_accepted_anywhere() -> None:
    text = """
x-a: {anything: [1]}
services: {a: {image: x, x-b: 1, healthcheck: {test: t, x-c: 1}, deploy: {x-d: {resources: 1}}}}
volumes: {v: {x-e: }}
"""
    assert () == loaded(text).warnings


# --- runtimes -------------------------------------------------------------------------------------


def process(body: str) -> TaskSpec:
    text = f"services: {{a: {{x-meshswarm: {{runtime: process}}, {body}}}}}"
    return loaded(text).spec.services[0].task


def test_a_process_needs_no_image_and_opens_its_own_ports() -> None:
    task = process("command: serve --port 80, image: x, ports: [80, '81:81/udp']")
    assert task.image is None
    assert [(80, 80), (81, 81)] == [(port.target, port.published) for port in task.ports]


@pytest.mark.parametrize(
    "body", ["command: ", "command: []", "command: '', entrypoint: ''", "user: u"]
)
def test_a_process_needs_a_command(body: str) -> None:
    with pytest.raises(Invalid, match="needs a `command`"):
        process(body)


@pytest.mark.parametrize("port", ["'80:81'", "'127.0.0.1:80:80'", "{target: 80, published: 1}"])
def test_a_process_port_cannot_be_mapped(port: str) -> None:
    with pytest.raises(Invalid, match="a process opens its ports itself"):
        process(f"command: c, ports: [{port}]")


def test_an_unknown_runtime() -> None:
    (fault,) = told(in_service("x-meshswarm: {runtime: vm}"))
    assert fault.endswith("x-meshswarm.runtime: must be `docker` or `process`, not `vm`")


# --- whatever comes -------------------------------------------------------------------------------

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["80:80", "a:/b", "${X", "CMD", "1m", "node.id==x", "bind", "raw"]),
    lambda children: st.lists(children, max_size=3)
    | st.dictionaries(
        st.sampled_from([
            "image", "command", "entrypoint", "environment", "env_file", "path", "user", "labels",
            "ports", "target", "published", "mode", "volumes", "type", "source", "tmpfs", "bind",
            "size", "healthcheck", "test", "interval", "deploy", "replicas", "resources", "limits",
            "cpus", "memory", "placement", "constraints", "restart_policy", "delay", "x-meshswarm",
            "runtime", "name", "external", "driver_opts", "stop_signal", "host_ip", "protocol",
        ]),
        children,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["services", "volumes", "name", "x-a"]), _VALUES), _VALUES)
def test_any_structure_gives_a_spec_or_invalid(root: dict[str, object], value: object) -> None:
    text = json.dumps(root | {"services": {"a": value, "b": root}})
    with contextlib.suppress(Invalid):
        spec = loaded(text, files={"a": "A=1"}).spec
        assert spec == codec.decode(codec.encode(spec), StackSpec)


@given(st.binary(max_size=100))
def test_any_bytes_give_a_spec_or_invalid(data: bytes) -> None:
    with contextlib.suppress(Invalid):
        loaded(data)


def test_what_compose_has_no_words_for_of_rollouts_stands_under_our_key() -> None:
    spec = service(
        "deploy: {update_config: {parallelism: 2, monitor: 0s}}\n"
        "x-meshswarm:\n"
        "  update_config: {min_healthy: 10s, healthy_deadline: 1m,\n"
        "                  progress_deadline: 2m, step: true}\n"
        "  rollback_config: {min_healthy: 0s}\n"
    )
    assert spec.update == UpdatePolicy(
        parallelism=2,
        min_healthy_s=10.0,
        healthy_deadline_s=60.0,
        progress_deadline_s=120.0,
        step=True,
    )
    assert spec.rollback == UpdatePolicy(min_healthy_s=0.0)
    assert service("command: x").update == UpdatePolicy()
