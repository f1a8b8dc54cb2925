"""Each filter's verdict, in words that a person can act on."""

import pytest
from attrs import evolve

from meshswarm.control.filters import Refusal, holds, in_one_sentence, refusal, refusals
from meshswarm.control.loads import Load
from meshswarm.model.network import Port, Protocol
from meshswarm.model.node import Availability, NodeState
from meshswarm.model.resources import Resources
from meshswarm.model.service import Comparison, Constraint, RuntimeKind, TaskSpec
from tests.support.builders import node, task_spec

N1 = node("n1", labels={"disk": "ssd"}, cpus=2, memory_mib=1_024)
PLAIN = task_spec()


def _constraint(text: str) -> Constraint:
    comparison = Comparison.EQUAL if "==" in text else Comparison.NOT_EQUAL
    key, _, value = text.partition(comparison.value)
    return Constraint(key=key, comparison=comparison, value=value)


@pytest.mark.parametrize(
    ("one", "spec", "load", "said"),
    [
        (node("n", state=NodeState.DOWN), PLAIN, Load(), "is down"),
        (node("n", state=NodeState.SUSPECT), PLAIN, Load(), "is silent, and may be down"),
        (
            node("n", state=NodeState.UNSTABLE),
            PLAIN,
            Load(),
            "is unstable: down too often of late to get anything new yet",
        ),
        (node("n", state=NodeState.UNKNOWN), PLAIN, Load(), "is not heard of yet"),
        (node("n", availability=Availability.PAUSE), PLAIN, Load(), "is paused"),
        (node("n", availability=Availability.DRAIN), PLAIN, Load(), "is drained"),
        (
            node("n", runtimes=(RuntimeKind.PROCESS,)),
            task_spec(runtime=RuntimeKind.DOCKER),
            Load(),
            "does not offer the docker runtime",
        ),
        (
            N1,
            task_spec(constraints=(_constraint("node.labels.disk==hdd"),)),
            Load(),
            "lacks node.labels.disk==hdd",
        ),
        (
            N1,
            task_spec(reservations=Resources(nano_cpus=1_500_000_000)),
            Load(nano_cpus=600_000_000),
            "has fewer than 1.5 CPUs unreserved",
        ),
        (
            N1,
            task_spec(reservations=Resources(memory_bytes=512 << 20)),
            Load(memory_bytes=513 << 20),
            "has less than 512 MiB of memory unreserved",
        ),
        (
            N1,
            task_spec(ports=(Port(target=80, published=8_080),)),
            Load(ports=(Port(target=1, published=8_080),)),
            "has port 8080/tcp taken",
        ),
    ],
)
def test_refusals(one: object, spec: TaskSpec, load: Load, said: str) -> None:
    found = refusal(one, spec, load, "web")  # type: ignore[arg-type]
    assert str(found) == said


def test_a_node_that_fits_is_not_refused() -> None:
    spec = task_spec(
        reservations=Resources(nano_cpus=2_000_000_000, memory_bytes=1_024 << 20),
        ports=(Port(target=80, published=80), Port(target=81)),
        constraints=(_constraint("node.labels.disk==ssd"), _constraint("node.id!=x")),
    )
    taken = (
        Port(target=80, published=81),
        Port(target=80, published=80, protocol=Protocol.UDP),
    )
    assert refusals(N1, spec, Load(ports=taken), "web") == ()


def test_ports_clash_only_on_a_shared_address() -> None:
    def clashes(one: str, other: str) -> bool:
        load = Load(ports=(Port(target=1, published=80, host_ip=other),))
        port = Port(target=1, published=80, host_ip=one)
        return refusal(N1, task_spec(ports=(port,)), load, "web") is not None

    assert clashes("", "127.0.0.1")
    assert clashes("127.0.0.1", "0.0.0.0")
    assert clashes("127.0.0.1", "127.0.0.1")
    assert not clashes("127.0.0.1", "10.0.0.1")


@pytest.mark.parametrize(
    ("text", "is_true"),
    [
        ("node.id==id-n1", True),
        ("node.id!=id-n1", False),
        ("node.hostname==n1", True),
        ("node.hostname==HOST-N1", True),
        ("node.hostname!=host-n1", False),
        ("node.hostname!=n2", True),
        ("node.role==manager", True),
        ("node.role==worker", False),
        ("node.platform.os==Linux", True),
        ("node.platform.arch==x86_64", True),
        ("node.platform.arch==amd64", True),
        ("node.platform.arch!=arm64", True),
        ("node.labels.disk==SSD", True),
        ("node.labels.disk!=ssd", False),
        ("node.labels.none==", True),
        ("node.labels.none!=x", True),
        ("node.labels.a.b==c", True),
        ("engine.labels.site==home", True),
        ("node.colour==red", False),
        ("node.colour!=red", False),
    ],
)
def test_constraints(text: str, is_true: bool) -> None:
    labels = {"disk": "ssd", "a.b": "c"}
    described = evolve(N1.description, engine_labels={"site": "home"})
    one = evolve(N1, labels=labels, description=described)
    assert holds(_constraint(text), one) is is_true


@pytest.mark.parametrize(
    ("text", "is_true"),
    [
        ("node.ip==10.1.2.3", True),
        ("node.ip==10.1.2.4", False),
        ("node.ip!=10.1.2.4", True),
        ("node.ip==10.0.0.0/8", True),
        ("node.ip==10.9.9.9/8", True),
        ("node.ip!=10.0.0.0/8", False),
        ("node.ip==192.168.0.0/16", False),
        ("node.ip==fd00::5", True),
        ("node.ip==FD00:0:0::5", True),
        ("node.ip==fd00::/8", True),
        ("node.ip!=fe80::/10", True),
        ("node.ip==0.0.0.0/0", True),
        ("node.ip==nonsense", False),
        ("node.ip!=nonsense", False),
    ],
)
def test_constraints_on_addresses(text: str, is_true: bool) -> None:
    described = evolve(N1.description, addresses=("10.1.2.3", "fd00::5"))
    assert holds(_constraint(text), evolve(N1, description=described)) is is_true


@pytest.mark.parametrize(
    ("mesh", "is_true"),
    [
        ("10.0.0.1:4747", True),
        ("[::1]:4747", False),
        ("0.0.0.0:1", False),
        ("n1:4747", False),
        ("", False),
    ],
)
def test_the_address_of_its_mesh_is_the_nodes_too_and_a_name_is_none(
    mesh: str, is_true: bool
) -> None:
    assert is_true is holds(_constraint("node.ip==0.0.0.0/0"), evolve(N1, address=mesh))
    assert is_true is not holds(_constraint("node.ip!=0.0.0.0/0"), evolve(N1, address=mesh))


def test_all_reasons_of_a_node_are_known_and_the_first_one_is_told() -> None:
    one = node("n", state=NodeState.DOWN, availability=Availability.DRAIN, runtimes=())
    said = [str(found) for found in refusals(one, PLAIN, Load(), "web")]
    assert said == ["is down", "is drained", "does not offer the process runtime"]
    assert str(refusal(one, PLAIN, Load(), "web")) == "is down"


def test_refusals_are_told_once_with_their_number() -> None:
    lacks = Refusal(one="lacks", many="lack", rest="node.labels.disk==ssd")
    offers = Refusal(one="does", many="do", rest="not offer the docker runtime")
    assert in_one_sentence([lacks, offers, lacks]) == (
        "no suitable node: 2 of 3 lack node.labels.disk==ssd; 1 does not offer the docker runtime"
    )
    assert in_one_sentence([offers]) == (
        "no suitable node: 1 of 1 does not offer the docker runtime"
    )
    assert in_one_sentence([]) == "no suitable node: the cluster has no nodes"


def test_a_sentence_names_only_so_many_reasons() -> None:
    many = [Refusal(one="lacks", many="lack", rest=f"r{number}") for number in range(9)]
    assert in_one_sentence(many).endswith("; 1 lacks r5; 3 for other reasons")
