"""What a deploy says where the services of a stack cannot find each other by name."""

import pytest
from attrs import evolve

from meshswarm.cli.main import main
from meshswarm.cli.networks import far_apart
from meshswarm.model.network import NetworkUse
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import TaskState
from meshswarm.store.commands import PutStack
from tests.support.fake_cluster import FakeClient, cluster_of, service, then, with_task


def view_of(*nodes: str, network: str | None = "shop_default") -> list[str]:
    """What is said if shop_web and shop_db run on these nodes."""
    uses = () if network is None else (NetworkUse(name=network),)
    specs = [service(name, 1) for name in ("shop_web", "shop_db")]
    specs = [evolve(spec, task=evolve(spec.task, networks=uses)) for spec in specs]
    view = then(cluster_of("n1", "n2"), PutStack(spec=StackSpec(name="shop", services=(*specs,))))
    for name, node in zip(("shop_web", "shop_db"), nodes, strict=True):
        view = with_task(view, name, 1, node, TaskState.RUNNING)
    return list(far_apart(view, "shop"))


def test_services_of_one_network_on_several_nodes_are_told() -> None:
    [told] = view_of("n1", "n2")
    assert told.startswith(
        "shop_db, shop_web are in network shop_default on several nodes (n1, n2), "
        "and names resolve only within one node yet"
    )


def test_where_it_does_not_matter_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert [] == view_of("n1", "n1")
    assert [] == view_of("n1", "n2", network=None)
    assert main(["stack", "ls"], FakeClient(cluster_of("n1")).connect) == 0
    assert "warning" not in capsys.readouterr().err
