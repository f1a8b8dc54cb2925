"""One pass of the controllers over a view, for tests that look at what it decides."""

from collections.abc import Mapping, Set
from typing import TypeVar

from meshswarm.control.decide import Decision, decide
from meshswarm.control.liveness import Liveness, LivenessPolicy
from meshswarm.store.commands import Batch, Simple
from meshswarm.store.view import Key, View
from tests.support.builders import NOW_MS, commit

C = TypeVar("C")


def decided(
    view: View,
    *,
    dirty: frozenset[Key] | None = None,
    now_ms: int = NOW_MS,
    silent: Mapping[str, int] | None = None,
    doubted: Set[str] = frozenset(),
    leading_ms: int = 1_000_000,
) -> Decision:
    """What a pass decides; nodes were heard this instant, but the `silent` ones (in ms)."""
    ages = {node.id: (silent or {}).get(node.name, 0) for node in view.nodes.values()}
    liveness = Liveness(
        silent_ms=ages,
        observing_ms=1_000_000,
        doubted=frozenset(node.id for node in view.nodes.values() if node.name in doubted),
        leading_ms=leading_ms,
    )
    return decide(view, dirty, liveness, LivenessPolicy(), now_ms)


def carried_out(view: View, decision: Decision, *, now_ms: int | None = None) -> View:
    """The view once the decision is committed."""
    applied = commit(view, Batch(commands=decision.commands), at_ms=now_ms)
    assert applied.outcome.effects == ()
    return applied.view


def of_kind(decision: Decision, kind: type[C]) -> list[C]:
    """The decision's commands of one kind."""
    return [command for command in decision.commands if isinstance(command, kind)]


def kinds(decision: Decision) -> list[type[Simple]]:
    """What kinds of commands were decided, in their order."""
    return [type(command) for command in decision.commands]
