"""Networks in a Compose file."""

import textwrap

import pytest

from meshswarm.errors import Invalid
from meshswarm.model.network import NetworkMode, NetworkUse
from meshswarm.model.service import TaskSpec
from tests.compose.loading import loaded

DEFINED = """
networks:
  front:
  back: {internal: true, driver: bridge, driver_opts: {a: b}, labels: {c: d}, name: own}
  theirs: {external: true}
  other: {external: true, name: elsewhere}
"""


def task(service: str, defined: str = DEFINED, head: str = "image: x") -> TaskSpec:
    """What a service with these lines runs."""
    text = f"services:\n  a:\n    {head}\n{textwrap.indent(service, '    ')}\n{defined}"
    return loaded(text).spec.services[0].task


def test_a_service_that_says_nothing_is_in_the_stacks_own_network() -> None:
    default = NetworkUse(name="p_default")
    assert (default,) == task("").networks
    assert (evolve_internal(default),) == task("", "networks: {default: {internal: true}}").networks
    assert () == task("x-meshswarm: {runtime: process}", "", "command: x").networks


def evolve_internal(use: NetworkUse) -> NetworkUse:
    return NetworkUse(name=use.name, internal=True)


def test_networks_are_a_list_or_a_mapping() -> None:
    back = NetworkUse(
        name="own", internal=True, driver_options={"a": "b"}, labels={"c": "d"}, aliases=("x", "y")
    )
    assert (NetworkUse(name="p_front"), back, NetworkUse(name="p_default")) == task(
        "networks: {front: , back: {aliases: [x, y]}, default: {}}"
    ).networks
    assert (
        NetworkUse(name="theirs", external=True),
        NetworkUse(name="elsewhere", external=True),
    ) == task("networks: [theirs, other]").networks


def test_a_mode_stands_instead_of_networks() -> None:
    for word, mode in (("host", NetworkMode.HOST), ("none", NetworkMode.NONE)):
        made = task(f"network_mode: {word}")
        assert (mode, ()) == (made.network_mode, made.networks)


@pytest.mark.parametrize(
    ("service", "defined", "said"),
    [
        ("networks: [nope]", DEFINED, "there is no `nope` under the file's own `networks`"),
        ("networks: [front, front]", DEFINED, "stands here twice"),
        ("networks: {front: {ipv4_address: 10.0.0.1}}", DEFINED, "not supported yet"),
        ("network_mode: bridge", "", "must be host or none, not `bridge`"),
        ("network_mode: host\nnetworks: [front]", DEFINED, "does not go with `network_mode`"),
        ("network_mode: host\nports: ['80:80']", "", "does not go with `network_mode`"),
        ("", "networks: {n: {driver: overlay}}", "must be bridge, not `overlay`"),
        ("", "networks: {n: {external: true, internal: true}}", "is not made here"),
        ("", "networks: {n: {ipam: {}}}", "not supported yet"),
    ],
)
def test_what_is_wrong_is_told(service: str, defined: str, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        task(service, defined)
    assert any(said in fault for fault in refused.value.details), refused.value.details


def test_a_process_has_the_hosts_network() -> None:
    process = "x-meshswarm: {runtime: process}\n    command: x"
    for line in ("networks: [front]", "network_mode: host"):
        with pytest.raises(Invalid) as refused:
            task(line, DEFINED, process)
        assert "a process has the host's network" in refused.value.details[0]
