"""Which nodes may take a task: a pipeline of filters, each of which says why it refuses one.

A refusal reads as the end of a sentence about its node ("lacks node.labels.disk==ssd"), and equal
refusals of several nodes are told once, with their number.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from attrs import evolve, frozen

from meshswarm.model.network import Port
from meshswarm.model.node import Availability, Node, NodeState
from meshswarm.model.service import Comparison, Constraint, TaskSpec

MAX_REASONS = 6
"""Different refusals that an explanation tells; the rest are counted."""

ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
"""The kernel's names of what Docker names differently."""

ANY_ADDRESS = ("", "0.0.0.0", "::")


@frozen(kw_only=True)
class Load:
    """What the tasks placed on a node have taken of it; those that still stop included."""

    tasks: int = 0
    nano_cpus: int = 0
    memory_bytes: int = 0
    ports: tuple[Port, ...] = ()
    """Only those with a fixed published port."""

    def plus(self, spec: TaskSpec) -> "Load":
        """The load with one more task."""
        return evolve(
            self,
            tasks=self.tasks + 1,
            nano_cpus=self.nano_cpus + spec.reservations.nano_cpus,
            memory_bytes=self.memory_bytes + spec.reservations.memory_bytes,
            ports=self.ports + fixed_ports(spec),
        )


def fixed_ports(spec: TaskSpec) -> tuple[Port, ...]:
    """The ports of the node that a task takes for itself alone."""
    return tuple(port for port in spec.ports if port.published)


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


Filter = Callable[[Node, TaskSpec, Load], Refusal | None]


def is_ready(node: Node, spec: TaskSpec, load: Load) -> Refusal | None:
    """Its agent answers."""
    match node.state:
        case NodeState.READY:
            return None
        case NodeState.DOWN:
            return _is("down")
        case NodeState.UNKNOWN:
            return _is("not heard of yet")


def is_available(node: Node, spec: TaskSpec, load: Load) -> Refusal | None:
    """The user lets it have new tasks."""
    match node.availability:
        case Availability.ACTIVE:
            return None
        case Availability.PAUSE:
            return _is("paused")
        case Availability.DRAIN:
            return _is("drained")


def offers_runtime(node: Node, spec: TaskSpec, load: Load) -> Refusal | None:
    """It can run this kind of task."""
    if spec.runtime in node.description.runtimes:
        return None
    return Refusal(one="does", many="do", rest=f"not offer the {spec.runtime.value} runtime")


def meets_constraints(node: Node, spec: TaskSpec, load: Load) -> Refusal | None:
    """Every constraint of the task holds for it; names the first that does not."""
    for constraint in spec.constraints:
        if not holds(constraint, node):
            return Refusal(one="lacks", many="lack", rest=str(constraint))
    return None


def has_cpus(node: Node, spec: TaskSpec, load: Load) -> Refusal | None:
    """Enough of its processors is not reserved."""
    wanted = spec.reservations.nano_cpus
    if wanted == 0 or load.nano_cpus + wanted <= node.description.resources.nano_cpus:
        return None
    return _has(f"fewer than {wanted / 1e9:g} CPUs unreserved")


def has_memory(node: Node, spec: TaskSpec, load: Load) -> Refusal | None:
    """Enough of its memory is not reserved."""
    wanted = spec.reservations.memory_bytes
    if wanted == 0 or load.memory_bytes + wanted <= node.description.resources.memory_bytes:
        return None
    return _has(f"less than {wanted / (1 << 20):g} MiB of memory unreserved")


def has_ports(node: Node, spec: TaskSpec, load: Load) -> Refusal | None:
    """No other task there publishes one of the task's ports."""
    for port in fixed_ports(spec):
        if any(_clash(port, taken) for taken in load.ports):
            return _has(f"port {port.published}/{port.protocol.value} taken")
    return None


FILTERS: tuple[Filter, ...] = (
    is_ready,
    is_available,
    offers_runtime,
    meets_constraints,
    has_cpus,
    has_memory,
    has_ports,
)
"""In the order in which the reasons matter to people: the first one is told."""


def refusals(node: Node, spec: TaskSpec, load: Load) -> tuple[Refusal, ...]:
    """All that speaks against the node."""
    return tuple(r for check in FILTERS if (r := check(node, spec, load)) is not None)


def refusal(node: Node, spec: TaskSpec, load: Load) -> Refusal | None:
    """The first thing that speaks against the node; None: it may take the task."""
    for check in FILTERS:
        found = check(node, spec, load)
        if found is not None:
            return found
    return None


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


def holds(constraint: Constraint, node: Node) -> bool:
    """Whether the constraint is true of the node; one with an unknown key never is."""
    values = _values(constraint.key, node)
    if values is None:
        return False
    wanted = constraint.value.casefold()
    if constraint.key == "node.platform.arch":
        wanted = ARCHITECTURES.get(wanted, wanted)
    is_equal = any(value.casefold() == wanted for value in values)
    match constraint.comparison:
        case Comparison.EQUAL:
            return is_equal
        case Comparison.NOT_EQUAL:
            return not is_equal


def _values(key: str, node: Node) -> tuple[str, ...] | None:
    """What the node has under a constraint's key; None for a key that means nothing."""
    description = node.description
    match key.split(".", 2):
        case ["node", "id"]:
            return (node.id,)
        case ["node", "hostname"]:
            return (node.name, description.hostname)
        case ["node", "role"]:
            return (node.role.value,)
        case ["node", "platform", "os"]:
            return (description.os,)
        case ["node", "platform", "arch"]:
            return (ARCHITECTURES.get(description.arch, description.arch),)
        case ["node", "labels", label]:
            return (node.labels.get(label, ""),)
        case ["engine", "labels", label]:
            return (description.engine_labels.get(label, ""),)
        case _:
            return None


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
