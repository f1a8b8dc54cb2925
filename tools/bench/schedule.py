"""The scheduler and the controllers alone: values in, values out, no log and no network.

    python3 tools/run.py bench schedule [--runs 3]

one_service_1000x100000      100,000 waiting tasks of one service, 1,000 nodes
hundred_services_1000x10000  100 services of 100 tasks each, with constraints and reservations
mixed_5000x10000             50 services of 200 tasks, of seven kinds: ports, zones, rules, ...
deploy_1000x30000            a service of 30,000 replicas, from its spec to `decide`'s last pass
preempt_1000x100             100 tasks for which one of 1,000 nodes each must be cleared: one pass
one_change_1000x30000        one pass of `decide` after one of 1,000 services of 30 tasks changed

Every case looks at what came out before it prints: all tasks placed, and evenly. `cpu_s` is the
processor's time for the same: on a busy machine the two differ, on an idle one they do not. What a
view is made of is left alone by the garbage collector, as in a node.
"""

import argparse
import gc
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve

from meshswarm.control.decide import decide
from meshswarm.control.kept import Kept
from meshswarm.control.liveness import Liveness, LivenessPolicy
from meshswarm.control.schedule import place
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import Index, NodeId, ServiceId, TaskId, Term, Version
from meshswarm.model.network import Port
from meshswarm.model.node import Node, NodeDescription, NodeRole, NodeState
from meshswarm.model.placement import Affinity, Placement
from meshswarm.model.resources import Resources
from meshswarm.model.service import (
    Comparison,
    Constraint,
    Revision,
    RuntimeKind,
    Service,
    ServiceSpec,
    TaskSpec,
)
from meshswarm.model.task import Task, TaskState, TaskStatus
from meshswarm.store.apply import apply_command
from meshswarm.store.commands import Batch, PutService, ScaleService, SetDesired
from meshswarm.store.view import Key, Table, View, build_view
from tools.bench.lab import emit, say

NOW_MS = 1_700_000_000_000
CHANGES = 100
"""Passes of `one_change` that the percentiles are of."""


def main() -> None:
    """Measure each case and print its figures: the median of the runs."""
    parser = argparse.ArgumentParser(prog="bench schedule", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    cases: dict[str, tuple[Callable[[], View], int]] = {
        "one_service_1000x100000": (one_service, 100_000),
        "hundred_services_1000x10000": (hundred_services, 10_000),
        "mixed_5000x10000": (mixed, 10_000),
    }
    for case, (make, count) in cases.items():
        elapsed_s, cpu_s = sorted(placing_s(make(), count) for _ in range(runs))[runs // 2]
        figures = {"elapsed_s": round(elapsed_s, 3), "cpu_s": round(cpu_s, 3)}
        emit("schedule", case, **figures, tasks_s=round(count / elapsed_s))
    elapsed_s, cpu_s, passes = sorted(deploying_s() for _ in range(runs))[runs // 2]
    figures = {"elapsed_s": round(elapsed_s, 3), "cpu_s": round(cpu_s, 3)}
    emit("schedule", "deploy_1000x30000", **figures, passes=passes)
    elapsed_s, cpu_s = sorted(preempting_s() for _ in range(runs))[runs // 2]
    figures = {"elapsed_s": round(elapsed_s, 3), "cpu_s": round(cpu_s, 3)}
    emit("schedule", "preempt_1000x100", **figures)
    wall_ms, cpu_ms = changing_ms()
    emit(
        "schedule",
        "one_change_1000x30000",
        p50_ms=round(percentile(wall_ms, 50), 1),
        p99_ms=round(percentile(wall_ms, 99), 1),
        cpu_p50_ms=round(percentile(cpu_ms, 50), 1),
        cpu_p99_ms=round(percentile(cpu_ms, 99), 1),
        runs=len(wall_ms),
    )


def percentile(values: Sequence[float], share: int) -> float:
    """The value that so many percent of the values do not exceed."""
    return sorted(values)[-(-len(values) * share // 100) - 1]


class Stopwatch:
    """How long it has been running, by the clock and by the processor."""

    def __init__(self) -> None:
        gc.collect()
        gc.freeze()
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Seconds of the clock, and of the processor."""
        return time.perf_counter() - self._began, time.process_time() - self._cpu


# --- what is measured -------------------------------------------------------------------------


def placing_s(view: View, count: int) -> tuple[float, float]:
    """How long the scheduler takes to give every waiting task of the view a node."""
    services = sorted(view.services)
    watch = Stopwatch()
    whatif = WhatIf(view, NOW_MS, most=count)
    for service_id in services:
        place(whatif, service_id, ())
    elapsed_s, cpu_s = watch.read()
    assert len(whatif.commands) == count, f"{len(whatif.commands)} of {count} tasks were placed"
    for service_id in services:
        tasks = whatif.view.tasks_of(service_id)
        on = Counter(task.node_id for task in tasks)
        assert max(on.values()) <= -(-len(tasks) // len(on)), f"{service_id} is not spread"
    say(f"{count} tasks: {elapsed_s:.2f} s, {cpu_s:.2f} s of the processor")
    return elapsed_s, cpu_s


def deploying_s() -> tuple[float, float, int]:
    """How long `decide` takes to create and place 30,000 tasks, and in how many passes."""
    view = cluster(nodes(1_000), [service("web", replicas=30_000)], waiting=False)
    dirty: frozenset[Key] = frozenset({(Table.SERVICES, "web")})
    elapsed_s = cpu_s = 0.0
    passes, kept = 0, Kept()
    while True:
        watch = Stopwatch()
        decision = decide(view, dirty, heard(view), LivenessPolicy(), NOW_MS, kept)
        took_s, worked_s = watch.read()
        elapsed_s, cpu_s = elapsed_s + took_s, cpu_s + worked_s
        if not decision.commands:
            break
        passes += 1
        applied = apply_command(
            evolve(view, index=Index(view.index + 1)), Batch(commands=decision.commands)
        )
        view, dirty = applied.view, frozenset(applied.changed) | decision.revisit
    placed = sum(task.node_id is not None for task in view.tasks.values())
    assert placed == 30_000, f"{placed} of 30000 tasks were placed"
    say(f"30000 replicas: {passes} passes, {elapsed_s:.2f} s, {cpu_s:.2f} s of the processor")
    return elapsed_s, cpu_s, passes


def preempting_s() -> tuple[float, float]:
    """How long the pass takes that makes room for 100 tasks on a full cluster of 1,000 nodes."""
    whole = {"reservations": Resources(nano_cpus=64_000_000_000)}
    lesser = service("lesser", replicas=1_000, **whole)
    full = running(cluster(nodes(1_000), [lesser], waiting=True))
    greater = evolve(lesser.spec, name="greater", replicas=100, priority=1)
    view = apply_command(evolve(full, index=Index(2)), PutService(spec=greater)).view
    watch = Stopwatch()
    decision = decide(view, None, heard(view), LivenessPolicy(), NOW_MS)
    elapsed_s, cpu_s = watch.read()
    stopped = sum(isinstance(command, SetDesired) for command in decision.commands)
    assert stopped == 100, f"{stopped} tasks made way for 100"
    say(f"room for 100 tasks: {elapsed_s:.2f} s, {cpu_s:.2f} s of the processor")
    return elapsed_s, cpu_s


def changing_ms() -> tuple[list[float], list[float]]:
    """How long each pass of `decide` takes that follows a change of one service."""
    services = [service(f"s{number:03}", replicas=30) for number in range(1_000)]
    view = running(cluster(nodes(1_000), services, waiting=True))
    found: list[tuple[float, float]] = []
    kept = Kept()
    decide(view, None, heard(view), LivenessPolicy(), NOW_MS, kept)
    for number in range(CHANGES):
        service_id = ServiceId(f"s{number:03}")
        scale = ScaleService(service_id=service_id, replicas=31)
        view = apply_command(evolve(view, index=Index(view.index + 1)), scale).view
        dirty = frozenset({(Table.SERVICES, str(service_id))})
        watch = Stopwatch()
        decision = decide(view, dirty, heard(view), LivenessPolicy(), NOW_MS, kept)
        elapsed_s, cpu_s = watch.read()
        found.append((1_000 * elapsed_s, 1_000 * cpu_s))
        assert len(decision.commands) == 1, f"{len(decision.commands)} commands for one replica"
        view = apply_command(view, Batch(commands=decision.commands)).view
    return [wall_ms for wall_ms, _ in found], [cpu_ms for _, cpu_ms in found]


def heard(view: View) -> Liveness:
    """Every node was heard just now."""
    return Liveness(silent_ms=dict.fromkeys(view.nodes, 0), observing_ms=1_000_000)


# --- what it is measured on -------------------------------------------------------------------


def one_service() -> View:
    """100,000 tasks of one service without any wishes."""
    return cluster(nodes(1_000), [service("web", replicas=100_000)], waiting=True)


def hundred_services() -> View:
    """Each service wants a zone, an operating system and processors; and no slow disk."""
    services = [
        service(
            f"s{number:03}",
            replicas=100,
            constraints=(
                equals("node.labels.zone", f"z{number % 10}"),
                equals("node.platform.os", "linux"),
                Constraint(key="node.labels.disk", comparison=Comparison.NOT_EQUAL, value="hdd"),
            ),
            reservations=Resources(nano_cpus=100_000_000, memory_bytes=64 << 20),
        )
        for number in range(100)
    ]
    return cluster(nodes(1_000), services, waiting=True)


def mixed() -> View:
    """Services of seven kinds in turn."""
    services = [
        service(f"s{number:03}", replicas=200, **KINDS[number % len(KINDS)](number))
        for number in range(50)
    ]
    return cluster(nodes(5_000), services, waiting=True)


def equals(key: str, value: str) -> Constraint:
    """A constraint that something is so."""
    return Constraint(key=key, comparison=Comparison.EQUAL, value=value)


KINDS: Sequence[Callable[[int], dict[str, Any]]] = (
    lambda number: {},
    lambda number: {"reservations": Resources(nano_cpus=250_000_000)},
    lambda number: {"reservations": Resources(memory_bytes=512 << 20)},
    lambda number: {"ports": (Port(target=80, published=8_000 + number),)},
    lambda number: {"constraints": (equals("node.labels.zone", f"z{number % 10}"),)},
    lambda number: {"placement": Placement(spread_over=("node.labels.zone", "node.labels.rack"))},
    lambda number: {
        "placement": Placement(
            max_replicas_per_node=1,
            affinities=(Affinity(service=f"s{number - 1:03}", is_apart=True),),
        )
    },
)


def nodes(count: int) -> list[Node]:
    """So many ready workers in ten zones, with 64 processors and 256 GiB each."""
    description = NodeDescription(
        arch="amd64",
        resources=Resources(nano_cpus=64_000_000_000, memory_bytes=256 << 30),
        runtimes=(RuntimeKind.DOCKER, RuntimeKind.PROCESS),
    )
    return [
        Node(
            id=NodeId(f"n{number:04}"),
            name=f"n{number:04}",
            role=NodeRole.WORKER,
            labels={"zone": f"z{number % 10}", "rack": f"r{number % 40}", "disk": "ssd"},
            description=description,
            incarnation=1,
            state=NodeState.READY,
        )
        for number in range(count)
    ]


def service(name: str, *, replicas: int, **fields: Any) -> Service:
    """A service; `fields` are those of its `TaskSpec`."""
    return Service(
        id=ServiceId(name),
        spec=ServiceSpec(name=name, replicas=replicas, task=TaskSpec(image="x", **fields)),
        revision=1,
        version=Version(1),
        created_at_ms=NOW_MS,
        updated_at_ms=NOW_MS,
    )


def cluster(members: list[Node], services: list[Service], *, waiting: bool) -> View:
    """A view of these rows; `waiting`: each replica has a task that wants a node."""
    revisions = [
        Revision(service_id=one.id, number=1, task=one.spec.task, created_at_ms=NOW_MS)
        for one in services
    ]
    tasks = [
        Task(
            id=TaskId(f"{one.id}-{slot}"),
            service_id=one.id,
            service_name=one.spec.name,
            slot=slot,
            revision=1,
            status=TaskStatus(state=TaskState.PENDING, since_ms=NOW_MS),
            created_at_ms=NOW_MS,
        )
        for one in services
        for slot in range(1, one.spec.replicas + 1)
    ]
    base = View(index=Index(1), term=Term(1), clock_ms=NOW_MS)
    return build_view(
        base, nodes=members, services=services, revisions=revisions, tasks=tasks if waiting else ()
    )


def running(view: View) -> View:
    """The view once all its tasks are placed, and run."""
    whatif = WhatIf(view, NOW_MS, most=len(view.tasks))
    for service_id in sorted(view.services):
        place(whatif, service_id, ())
    status = TaskStatus(state=TaskState.RUNNING, since_ms=NOW_MS, started_at_ms=NOW_MS)
    return build_view(
        View(index=view.index, term=view.term, clock_ms=view.clock_ms),
        nodes=view.nodes.values(),
        services=view.services.values(),
        revisions=(row for rows in view.revisions.values() for row in rows.values()),
        tasks=(evolve(task, status=status) for task in whatif.view.tasks.values()),
    )


if __name__ == "__main__":
    main()
