"""What users wish of placement: each rule refuses in words, and each preference shows."""

from collections import Counter

import pytest

from meshswarm.control.filters import refusal
from meshswarm.control.loads import Load
from meshswarm.model.node import Node
from meshswarm.model.placement import Affinity, Placement, Strategy
from meshswarm.model.resources import DeviceGrant, DeviceOffer, DeviceRequest, Resources
from meshswarm.model.service import Service
from meshswarm.model.task import DesiredState, TaskState
from meshswarm.store.commands import CreateTask
from meshswarm.store.view import Table, View
from tests.support.builders import node, service, task, task_spec, view
from tests.support.deciding import carried_out, decided, of_kind

N1, N2, N3 = node("n1"), node("n2"), node("n3")


def placed(before: View, of: Service) -> Counter[str]:
    """The names of the nodes that new tasks of the service get; empty: none."""
    created = [c for c in of_kind(decided(before), CreateTask) if c.service_id == of.id]
    return Counter(before.nodes[c.node_id].name if c.node_id else "" for c in created)


def why_not(before: View, of: Service) -> str:
    """What is said of the service's tasks that get no node."""
    created = [c for c in of_kind(decided(before), CreateTask) if c.service_id == of.id]
    [message] = {c.message for c in created if c.node_id is None}
    return message


def with_gpus(name: str, *ids: str, ssds: int = 0) -> Node:
    offers = (DeviceOffer(kind="gpu", ids=ids), DeviceOffer(kind="ssd", count=ssds))
    return node(name, devices=offers)


# --- filters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "said"),
    [
        ("linux/amd64", None),
        ("linux/x86_64", None),
        ("linux", None),
        ("linux/arm64/v8", "is linux/amd64, not linux/arm64/v8"),
        ("windows/amd64", "is linux/amd64, not windows/amd64"),
    ],
)
def test_a_platform_is_that_of_the_node(platform: str, said: str | None) -> None:
    found = refusal(N1, task_spec(platform=platform), Load(), "web")
    assert said == (found and str(found))


def test_no_node_has_more_replicas_than_the_service_allows() -> None:
    web = service("web", replicas=5, placement=Placement(max_replicas_per_node=2))
    before = view([N1, N2], [web], [task(web, 1, N1)])
    assert placed(before, web) == {"n1": 1, "n2": 2, "": 1}
    assert (
        why_not(before, web) == "no suitable node: 2 of 2 have 2 tasks of web, its limit on a node"
    )


def test_complaint_21_affinity_goes_where_the_other_service_runs_and_waits_for_it() -> None:
    db = service("db")
    web = service("web", replicas=2, placement=Placement(affinities=(Affinity(service="db"),)))
    assert placed(view([N1, N2], [db, web], [task(db, 1, N2)]), web) == {"n2": 2}
    stops = task(db, 1, N2, desired=DesiredState.SHUTDOWN)
    unmet = view([N1, N2], [db, web], [stops, task(db, 2, N1, TaskState.FAILED, created_at_ms=1)])
    alone = view([N1, N2], [web], [])
    assert why_not(alone, web) == "no suitable node: 2 of 2 run no task of db"
    assert placed(unmet, web)[""] in (0, 2), "a task that stops is no company"


def test_who_waits_for_company_is_looked_at_when_it_comes() -> None:
    rule = Placement(affinities=(Affinity(service="z-db"),))
    web, db = service("a-web", placement=rule), service("z-db")
    waiting = task(web, 1)
    before = view([N1], [web, db], [waiting, task(db, 1, N1, id="db-1")])
    dirty = frozenset({(Table.TASKS, "db-1")})
    after = carried_out(before, decided(before, dirty=dirty))
    assert after.tasks[waiting.id].node_id == N1.id


def test_complaint_21_anti_affinity_keeps_apart_in_both_directions() -> None:
    rule = Placement(affinities=(Affinity(service="noisy", is_apart=True),))
    quiet, one = service("quiet", replicas=3, placement=rule), service("noisy")
    before = view([N1, N2], [quiet, one], [task(one, 1, N1)])
    assert placed(before, quiet) == {"n2": 3}
    alone = view([N1], [quiet, one], [task(one, 1, N1)])
    assert why_not(alone, quiet) == (
        "no suitable node: 1 of 1 runs a task of noisy, from which quiet keeps apart"
    )
    noisy = service("noisy", replicas=3)
    other = view([N1, N2], [quiet, noisy], [task(quiet, n, N1) for n in (1, 2, 3)])
    assert placed(other, noisy) == {"n2": 3}
    full = view([N1], [quiet, noisy], [task(quiet, n, N1) for n in (1, 2, 3)])
    assert (
        why_not(full, noisy) == "no suitable node: 1 of 1 runs a task that keeps apart from noisy"
    )


def test_a_service_apart_from_itself_has_one_task_a_node() -> None:
    rule = Placement(affinities=(Affinity(service="web", is_apart=True),))
    web = service("web", replicas=3, placement=rule)
    assert placed(view([N1, N2], [web]), web) == {"n1": 1, "n2": 1, "": 1}


def test_complaint_35_devices_are_given_to_one_task_at_a_time() -> None:
    train = service("train", replicas=3, devices=(DeviceRequest(kind="gpu", count=2),))
    before = view([with_gpus("n1", "a", "b", "c"), with_gpus("n2", "d", "e")], [train])
    created = of_kind(decided(before), CreateTask)
    assert {(c.node_id, c.devices) for c in created} == {
        ("id-n1", (DeviceGrant(kind="gpu", ids=("a", "b")),)),
        ("id-n2", (DeviceGrant(kind="gpu", ids=("d", "e")),)),
        (None, ()),
    }
    assert why_not(before, train) == "no suitable node: 2 of 2 have fewer than 2 gpu free"
    after = carried_out(before, decided(before))
    held = [t.devices for t in after.tasks.values() if t.node_id == "id-n2"]
    assert held == [(DeviceGrant(kind="gpu", ids=("d", "e")),)]


@pytest.mark.parametrize(
    ("request_", "taken", "said"),
    [
        (DeviceRequest(kind="gpu", ids=("b",)), (), None),
        (DeviceRequest(kind="gpu", ids=("b",)), ("b",), "has gpu b taken"),
        (DeviceRequest(kind="gpu", ids=("z",)), (), "has no gpu z"),
        (DeviceRequest(kind="gpu", count=0), ("a",), "has fewer than 2 gpu free"),
        (DeviceRequest(kind="gpu", count=0), (), None),
        (DeviceRequest(kind="tpu"), (), "has no tpu"),
        (DeviceRequest(kind="ssd", count=2), (), None),
        (DeviceRequest(kind="ssd", count=3), (), "has fewer than 3 ssd free"),
    ],
)
def test_devices_refuse_in_words(
    request_: DeviceRequest, taken: tuple[str, ...], said: str | None
) -> None:
    load = Load(devices=(DeviceGrant(kind="gpu", ids=taken), DeviceGrant(kind="ssd", count=1)))
    found = refusal(
        with_gpus("n1", "a", "b", ssds=3), task_spec(devices=(request_,)), load, "train"
    )
    assert said == (found and str(found))


# --- scores -----------------------------------------------------------------------------------


def test_complaint_22_load_is_weighed_by_reservations_not_counted() -> None:
    big = service("big", reservations=Resources(nano_cpus=3_000_000_000))
    small, web = service("small", replicas=3), service("web")
    tasks = [task(big, 1, N1), *(task(small, slot, N2) for slot in (1, 2, 3))]
    assert placed(view([N1, N2], [big, small, web], tasks), web) == {"n2": 1}


def test_a_larger_node_bears_more() -> None:
    web = service("web", replicas=1)
    other = service("other", replicas=5)
    tasks = [task(other, slot, N1) for slot in (1, 2)]
    tasks += [task(other, slot, node("n2")) for slot in (3, 4, 5)]
    large = node("n2", cpus=64, memory_mib=262_144)
    assert placed(view([N1, large], [other, web], tasks), web) == {"n2": 1}


def test_complaint_22_binpack_fills_one_node_before_the_next() -> None:
    reserved = Resources(nano_cpus=1_000_000_000)
    web = service(
        "web", replicas=6, reservations=reserved, placement=Placement(strategy=Strategy.BINPACK)
    )
    assert placed(view([N1, N2, N3], [web]), web) == {"n1": 4, "n2": 2}


def test_balanced_evens_out_what_is_used_most() -> None:
    reserved = Resources(nano_cpus=1_000_000_000)
    web = service(
        "web", replicas=3, reservations=reserved, placement=Placement(strategy=Strategy.BALANCED)
    )
    busy = service("busy", reservations=Resources(memory_bytes=6 << 30))
    before = view([N1, N2], [busy, web], [task(busy, 1, N1)])
    assert placed(before, web) == {"n2": 3}, "n2: 3 of 4 CPUs; n1: 6 of 8 GiB and more"


def test_wishes_are_kept_where_that_can_be() -> None:
    db = service("db")
    near = Placement(affinities=(Affinity(service="db", is_required=False),))
    apart = Placement(affinities=(Affinity(service="db", is_apart=True, is_required=False),))
    web, log = service("web", replicas=2, placement=near), service("log", placement=apart)
    tasks = [task(db, 1, N2)]
    before = view([N1, N2], [db, web, log], tasks)
    assert placed(before, web) == {"n2": 2}
    assert placed(before, log) == {"n1": 1}
    assert placed(view([N2], [db, log], tasks), log) == {"n2": 1}, "rather there than nowhere"


def zoned(*zones: str) -> list[Node]:
    return [node(f"n{n}", labels={"zone": zone, "rack": f"r{n}"}) for n, zone in enumerate(zones)]


def test_preferences_spread_over_zones_before_nodes() -> None:
    placement = Placement(spread_over=("node.labels.zone",))
    web = service("web", replicas=6, placement=placement)
    nodes = zoned("a", "a", "a", "a", "b")
    assert placed(view(nodes, [web]), web) == {"n0": 1, "n1": 1, "n2": 1, "n4": 3}


def test_preferences_count_what_runs_already() -> None:
    placement = Placement(spread_over=("node.labels.zone",))
    web = service("web", replicas=4, placement=placement)
    nodes = zoned("a", "b")
    before = view(nodes, [web], [task(web, slot, nodes[0]) for slot in (1, 2)])
    assert placed(before, web) == {"n1": 2}


def test_nodes_without_the_label_are_one_branch() -> None:
    placement = Placement(spread_over=("node.labels.zone", "node.labels.rack"))
    web = service("web", replicas=4, placement=placement)
    nodes = [*zoned("a"), node("x"), node("y")]
    assert placed(view(nodes, [web]), web) == {"n0": 2, "x": 1, "y": 1}


def test_a_full_branch_leaves_its_share_to_the_others() -> None:
    placement = Placement(spread_over=("node.labels.zone",), max_replicas_per_node=1)
    web = service("web", replicas=4, placement=placement)
    assert placed(view(zoned("a", "b", "b", "b"), [web]), web) == {
        "n0": 1,
        "n1": 1,
        "n2": 1,
        "n3": 1,
    }


def test_a_silent_zone_gets_nothing() -> None:
    placement = Placement(spread_over=("node.labels.zone",))
    web = service("web", replicas=2, placement=placement)
    nodes = zoned("a", "b", "b")
    before = view(nodes, [web])
    decision = decided(before, silent={"n0": 2_500})
    assert {c.node_id for c in of_kind(decision, CreateTask)} == {"id-n1", "id-n2"}


def test_three_recent_failures_on_a_node_send_the_next_elsewhere() -> None:
    web = service("web", replicas=2)
    failed = [
        task(web, 1, N1, TaskState.FAILED, id=f"f{n}", created_at_ms=before_ms)
        for n, before_ms in enumerate(range(1_699_999_999_000, 1_699_999_999_003))
    ]
    busy = [task(service("busy", replicas=2), slot, N2) for slot in (1, 2)]
    before = view([N1, N2], [web, service("busy", replicas=2)], [*failed[:2], *busy])
    assert placed(before, web)["n1"] == 1
    again = view([N1, N2], [web, service("busy", replicas=2)], [*failed, *busy])
    assert placed(again, web) == {"n2": 2}
