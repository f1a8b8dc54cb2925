"""Which nodes may take a task: a pipeline of filters, each of which says why it refuses one.

A refusal reads as the end of a sentence about its node ("lacks node.labels.disk==ssd"), and equal
refusals of several nodes are told once, with their number.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from attrs import frozen

from meshswarm.control.loads import Load, fixed_ports, shunned_by
from meshswarm.model.network import Port
from meshswarm.model.node import ARCHITECTURES, Availability, Node, NodeState
from meshswarm.model.placement import Affinity
from meshswarm.model.resources import DeviceGrant, DeviceOffer, DeviceRequest
from meshswarm.model.service import Comparison, Constraint, TaskSpec

MAX_REASONS = 6
"""Different refusals that an explanation tells; the rest are counted."""

MAX_CONDITIONS = 10_000
"""Constraints that are kept taken apart."""

ANY_ADDRESS = ("", "0.0.0.0", "::")


@frozen(kw_only=True)
class Refusal:
    """Why a node may not take a task: a verb, in singular and plural, and what follows it."""

    one: str
    many: str
    rest: str

    def __str__(self) -> str:
        return f"{self.one} {self.rest}"


def _is(what: str) -> Refusal:
    return Refusal(one="is", many="are", rest=what)


def _has(what: str) -> Refusal:
    return Refusal(one="has", many="have", rest=what)


Filter = Callable[[Node, TaskSpec, Load, str], Refusal | None]
"""Of a node, a task, what has been taken of the node, and the full name of the task's service."""


def is_ready(node: Node, spec: TaskSpec, load: Load, name: str) -> Refusal | None:
    """Its agent answers."""
    match node.state:
        case NodeState.READY:
            return None
        case NodeState.SUSPECT:
            return _is("silent, and may be down")
        case NodeState.UNSTABLE:
            return _is("unstable: down too often of late to get anything new yet")
        case NodeState.DOWN:
            return _is("down")
        case NodeState.UNKNOWN:
            return _is("not heard of yet")


def is_available(node: Node, spec: TaskSpec, load: Load, name: str) -> Refusal | None:
    """The user lets it have new tasks."""
    match node.availability:
        case Availability.ACTIVE:
            return None
        case Availability.PAUSE:
            return _is("paused")
        case Availability.DRAIN:
            return _is("drained")


def offers_runtime(node: Node, spec: TaskSpec, load: Load, name: str) -> Refusal | None:
    """It can run this kind of task."""
    if spec.runtime in node.description.runtimes:
        return None
    return Refusal(one="does", many="do", rest=f"not offer the {spec.runtime.value} runtime")


def fits_platform(node: Node, spec: TaskSpec, load: Load, name: str) -> Refusal | None:
    """It has the operating system and the architecture that the image is for."""
    if spec.platform is None:
        return None
    system, _, wanted = spec.platform.lower().partition("/")
    wanted = wanted.split("/")[0]
    here = node.description.os
    if system == here and ARCHITECTURES.get(wanted, wanted) in ("", arch_of(node)):
        return None
    return _is(f"{here}/{arch_of(node)}, not {spec.platform}")


def meets_constraints(node: Node, spec: TaskSpec, load: Load, name: str) -> Refusal | None:
    """Every constraint of the task holds for it; names the first that does not."""
    for constraint in spec.constraints:
        if not condition(constraint)(node):
            return Refusal(one="lacks", many="lack", rest=str(constraint))
    return None


def has_cpus(node: Node, spec: TaskSpec, load: Load, name: str) -> Refusal | None:
    """Enough of its processors is not reserved."""
    wanted = spec.reservations.nano_cpus
    if wanted == 0 or load.nano_cpus + wanted <= node.description.resources.nano_cpus:
        return None
    return _has(f"fewer than {wanted / 1e9:g} CPUs unreserved")


def has_memory(node: Node, spec: TaskSpec, load: Load, name: str) -> Refusal | None:
    """Enough of its memory is not reserved."""
    wanted = spec.reservations.memory_bytes
    if wanted == 0 or load.memory_bytes + wanted <= node.description.resources.memory_bytes:
        return None
    return _has(f"less than {wanted / (1 << 20):g} MiB of memory unreserved")


def has_ports(node: Node, spec: TaskSpec, load: Load, name: str) -> Refusal | None:
    """No other task there publishes one of the task's ports."""
    if not load.ports:
        return None
    for port in fixed_ports(spec):
        if any(_clash(port, taken) for taken in load.ports):
            return _has(f"port {port.published}/{port.protocol.value} taken")
    return None


def keeps_to_limit(node: Node, spec: TaskSpec, load: Load, name: str) -> Refusal | None:
    """It has fewer of the service's tasks than the service allows on one node."""
    limit = spec.placement.max_replicas_per_node
    if limit == 0 or load.services.get(name, 0) < limit:
        return None
    return _has(f"{limit} {'task' if limit == 1 else 'tasks'} of {name}, its limit on a node")


def keeps_company(node: Node, spec: TaskSpec, load: Load, name: str) -> Refusal | None:
    """The services are there that the task must be with, and none that it must be apart from."""
    for rule in spec.placement.affinities:
        if not rule.is_required or is_kept(rule, load):
            continue
        if rule.is_apart:
            rest = f"a task of {rule.service}, from which {name} keeps apart"
            return Refusal(one="runs", many="run", rest=rest)
        return Refusal(one="runs", many="run", rest=f"no task of {rule.service}")
    return None


def is_let_in(node: Node, spec: TaskSpec, load: Load, name: str) -> Refusal | None:
    """No task there must be apart from the service's."""
    if name not in load.shunned:
        return None
    return Refusal(one="runs", many="run", rest=f"a task that keeps apart from {name}")


def has_devices(node: Node, spec: TaskSpec, load: Load, name: str) -> Refusal | None:
    """Enough of its devices are free, and those that the task names."""
    found = devices_for(node, spec, load)
    return found if isinstance(found, Refusal) else None


BY_RUNTIME: tuple[Filter, ...] = (is_ready, is_available, offers_runtime)
"""What only the node and the kind of task decide."""

BY_NODE: tuple[tuple[Filter, Callable[[TaskSpec], object]], ...] = (
    (fits_platform, lambda spec: spec.platform),
    (meets_constraints, lambda spec: spec.constraints),
)
"""What the node and the task decide, and which tasks it matters to."""

BY_LOAD: tuple[tuple[Filter, Callable[[TaskSpec], object]], ...] = (
    (has_cpus, lambda spec: spec.reservations.nano_cpus),
    (has_memory, lambda spec: spec.reservations.memory_bytes),
    (has_devices, lambda spec: spec.devices),
    (has_ports, lambda spec: spec.ports),
    (keeps_to_limit, lambda spec: spec.placement.max_replicas_per_node),
    (keeps_company, lambda spec: spec.placement.affinities),
    (is_let_in, lambda spec: True),
)
"""What other tasks on the node decide, and which tasks it matters to."""

FILTERS: tuple[Filter, ...] = (
    *BY_RUNTIME,
    *(check for check, _ in (*BY_NODE, *BY_LOAD)),
)
"""In the order in which the reasons matter to people: the first one is told."""


def refusals(node: Node, spec: TaskSpec, load: Load, name: str) -> tuple[Refusal, ...]:
    """All that speaks against the node."""
    return tuple(r for check in FILTERS if (r := check(node, spec, load, name)) is not None)


def refusal(node: Node, spec: TaskSpec, load: Load, name: str) -> Refusal | None:
    """The first thing that speaks against the node; None: it may take the task."""
    return first_refusal(FILTERS, node, spec, load, name)


def first_refusal(
    checks: Iterable[Filter], node: Node, spec: TaskSpec, load: Load, name: str
) -> Refusal | None:
    """The first thing that one of these filters has against the node."""
    for check in checks:
        found = check(node, spec, load, name)
        if found is not None:
            return found
    return None


def suits(spec: TaskSpec) -> Callable[[Node], bool] | None:
    """Whether no filter of `BY_NODE` refuses a node: the same, but taken apart once for all.

    None: none of them matters to the task.
    """
    if not any(matters(spec) for _, matters in BY_NODE):
        return None
    conditions = [condition(constraint) for constraint in spec.constraints]
    nothing = Load()

    def suited(node: Node) -> bool:
        for holds_of in conditions:
            if not holds_of(node):
                return False
        return fits_platform(node, spec, nothing, "") is None

    return suited


def filters_by_load(spec: TaskSpec) -> tuple[Filter, ...]:
    """The filters that other tasks on the node may turn against this one."""
    return tuple(check for check, matters in BY_LOAD if matters(spec))


def filters_by_more(spec: TaskSpec, name: str) -> tuple[Filter, ...]:
    """The filters that one more task like this one may turn against the next."""
    keeps_itself_out = name in shunned_by(spec)
    return tuple(
        check for check in filters_by_load(spec) if check is not is_let_in or keeps_itself_out
    )


def in_one_sentence(found: Iterable[Refusal]) -> str:
    """Why no node will do: one refusal a node, equal ones together, the most frequent first."""
    counts = Counter(found)
    total = counts.total()
    if total == 0:
        return "no suitable node: the cluster has no nodes"
    ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    parts = [f"{n} {r.one if n == 1 else r.many} {r.rest}" for r, n in ranked[:MAX_REASONS]]
    parts[0] = parts[0].replace(" ", f" of {total} ", 1)
    others = sum(n for _, n in ranked[MAX_REASONS:])
    if others:
        parts.append(f"{others} for other reasons")
    return "no suitable node: " + "; ".join(parts)


def is_kept(rule: Affinity, load: Load) -> bool:
    """Whether the rule is kept by what runs on the node."""
    if rule.is_apart:
        return rule.service not in load.services
    return load.live_of(rule.service) > 0


def devices_for(node: Node, spec: TaskSpec, load: Load) -> tuple[DeviceGrant, ...] | Refusal:
    """The devices of the node that the task gets, the first free ones; or why it cannot."""
    offers = {offer.kind: offer for offer in node.description.devices}
    taken, granted = load.devices, list[DeviceGrant]()
    for request in spec.devices:
        offer = offers.get(request.kind, DeviceOffer(kind=request.kind))
        if offer.total == 0:
            return _has(f"no {request.kind}")
        used = [grant for grant in (*taken, *granted) if grant.kind == request.kind]
        grant = _grant(offer, request, used)
        if isinstance(grant, Refusal):
            return grant
        granted.append(grant)
    return tuple(granted)


def granted(node: Node, spec: TaskSpec, load: Load) -> tuple[DeviceGrant, ...]:
    """The devices that the task gets of a node which no filter refuses."""
    found = devices_for(node, spec, load)
    assert not isinstance(found, Refusal), f"{node.name} was judged to have the devices"
    return found


def _grant(
    offer: DeviceOffer, request: DeviceRequest, used: Sequence[DeviceGrant]
) -> DeviceGrant | Refusal:
    held = {device for grant in used for device in grant.ids}
    free = [device for device in offer.ids if device not in held]
    for device in request.ids:
        if device not in free:
            is_there = device in offer.ids
            return _has(
                f"{request.kind} {device} taken" if is_there else f"no {request.kind} {device}"
            )
    if request.ids:
        return DeviceGrant(kind=request.kind, ids=request.ids)
    wanted = request.count or offer.total
    left = len(free) if offer.ids else offer.count - sum(grant.count for grant in used)
    if left < wanted:
        return _has(f"fewer than {wanted} {request.kind} free")
    if offer.ids:
        return DeviceGrant(kind=request.kind, ids=tuple(free[:wanted]))
    return DeviceGrant(kind=request.kind, count=wanted)


def value_of(key: str) -> Callable[[Node], str]:
    """What a node has under a key of constraints; the empty text if it has nothing there."""
    if key.startswith("node.labels."):
        label = key.removeprefix("node.labels.")
        return lambda node: node.labels.get(label, "")
    read = _reader(key)
    return lambda node: read(node)[0] if read else ""


def holds(constraint: Constraint, node: Node) -> bool:
    """Whether the constraint is true of the node; one with an unknown key never is."""
    return condition(constraint)(node)


@lru_cache(maxsize=MAX_CONDITIONS)
def condition(constraint: Constraint) -> Callable[[Node], bool]:
    """The constraint as a function of the node: taken apart once, asked of every node."""
    read = _reader(constraint.key)
    wanted = constraint.value.casefold()
    if constraint.key == "node.platform.arch":
        wanted = ARCHITECTURES.get(wanted, wanted)
    is_equal = constraint.comparison is Comparison.EQUAL
    if constraint.key == "node.ip":
        return _address_condition(constraint.value, is_equal)
    if read is None:
        return lambda node: False
    if constraint.key.startswith("node.labels."):
        label = constraint.key.removeprefix("node.labels.")
        return lambda node: (node.labels.get(label, "").casefold() == wanted) is is_equal
    return lambda node: (wanted in [value.casefold() for value in read(node)]) is is_equal


def _address_condition(wanted: str, is_equal: bool) -> Callable[[Node], bool]:
    """Whether one of the node's addresses is in the network, or none is; like a key that means
    nothing, what is no network is true of no node."""
    try:
        network = ip_network(wanted, strict=False)
    except ValueError:
        return lambda node: False
    return lambda node: any(one in network for one in addresses_of(node)) is is_equal


def addresses_of(node: Node) -> tuple[IPv4Address | IPv6Address, ...]:
    """The node's addresses as far as they are known: from its host, and that of its mesh."""
    return _addresses(node.description.addresses, node.address)


@lru_cache(maxsize=MAX_CONDITIONS)
def _addresses(told: tuple[str, ...], mesh: str) -> tuple[IPv4Address | IPv6Address, ...]:
    found: dict[IPv4Address | IPv6Address, None] = {}
    for text in (*told, mesh.rpartition(":")[0].strip("[]")):
        with suppress(ValueError):  # the mesh's may be a name
            found[ip_address(text)] = None
    return tuple(one for one in found if not one.is_unspecified)


def _reader(key: str) -> Callable[[Node], Sequence[str]] | None:
    """What a node has under a constraint's key; None for a key that means nothing."""
    match key.split(".", 2):
        case ["node", "id"]:
            return lambda node: (node.id,)
        case ["node", "hostname"]:
            return lambda node: (node.name, node.description.hostname)
        case ["node", "role"]:
            return lambda node: (node.role.value,)
        case ["node", "platform", "os"]:
            return lambda node: (node.description.os,)
        case ["node", "platform", "arch"]:
            return lambda node: (arch_of(node),)
        case ["node", "labels", label]:
            return lambda node: (node.labels.get(label, ""),)
        case ["engine", "labels", label]:
            return lambda node: (node.description.engine_labels.get(label, ""),)
        case _:
            return None


def arch_of(node: Node) -> str:
    """The node's architecture as Docker names it."""
    return ARCHITECTURES.get(node.description.arch, node.description.arch)


def _clash(one: Port, other: Port) -> bool:
    return (
        one.published == other.published
        and one.protocol is other.protocol
        and (
            one.host_ip == other.host_ip
            or one.host_ip in ANY_ADDRESS
            or other.host_ip in ANY_ADDRESS
        )
    )
