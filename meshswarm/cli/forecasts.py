"""A forecast as people and programs read it. Pure.

The document of `simulate -o json`: `index`, `span_ms`, `assumed`, `timeline` (at_ms, kind, service,
slot, node, message), `left_out`, and `services` (name, wanted_before, serving_before, wanted,
serving, longest_outage_ms, is_out, longest_short_ms, is_short, moved, down, summary).
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from meshswarm.cli.rows import plain
from meshswarm.cli.show import Column, Listing
from meshswarm.cli.talk import count
from meshswarm.sim.account import Moment
from meshswarm.sim.forecast import Down, Forecast, Move, Question, ServiceForecast
from meshswarm.store.view import View

MAX_ALIKE = 4
"""Slots of one service to which the same happens at once that have a line each; more share one."""

MAX_NAMED = 3
"""Slots that such a line, or a cell, names."""


def document(view: View, question: Question, found: Forecast) -> dict[str, object]:
    """All of it, for programs."""
    return {
        "index": int(view.index),
        "span_ms": found.span_ms,
        "assumed": {**_mapping(question.assumed), "down_ms": question.policy.down_ms},
        "timeline": plain(found.timeline),
        "left_out": found.left_out,
        "services": plain(found.services),
    }


def _mapping(value: object) -> dict[str, object]:
    found = plain(value)
    assert isinstance(found, dict), f"not a value with fields: {value!r}"
    return found


def preamble(view: View, question: Question) -> Iterator[str]:
    """What is modelled, and what is taken for granted."""
    nodes, services = count(len(view.nodes), "node"), count(len(view.services), "service")
    yield f"a model of {nodes} and {services}, as of log entry {view.index}; nothing is changed"
    assumed = question.assumed
    health = "when it first looks"
    if assumed.healthy_ms is not None:
        health = f"{lasting(assumed.healthy_ms)} after that"
    yield (
        f"assumed: images are there, a task starts in {lasting(assumed.start_ms)}, its health "
        f"check passes {health}, what fails now fails on, a silent node is down after "
        f"{lasting(question.policy.down_ms)}"
    )


# --- the timeline -------------------------------------------------------------------------------


def timeline(found: Forecast) -> Iterator[str]:
    """What happens, a line each; what happens to many alike is one."""
    rows: list[tuple[str, str, str]] = []
    for _, alike in groupby(found.timeline, key=_likeness):
        group = list(alike)
        if len(group) <= MAX_ALIKE:
            rows += [(lasting(one.at_ms), _who(one), _what(one)) for one in group]
        else:
            rows.append((lasting(group[0].at_ms), group[0].service or "", _together(group)))
    times = max((len(row[0]) for row in rows), default=0)
    names = max((len(row[1]) for row in rows), default=0)
    for at, who, what in rows:
        yield f"{at:>{times}}  {who:<{names}}  {what}"
    if found.left_out:
        yield f"and {found.left_out} more"
    yield f"{'nothing happens' if not rows else ''}\nafter {lasting(found.span_ms)}:".lstrip("\n")


def _likeness(moment: Moment) -> tuple[object, ...]:
    """What moments of which only the first few are told have in common."""
    if moment.slot is None:
        return (id(moment),)
    return (moment.at_ms // 1_000, moment.kind, moment.service, moment.message)


def _who(moment: Moment) -> str:
    return moment.slot or moment.service or moment.node or moment.kind


def _what(moment: Moment) -> str:
    said = f": {moment.message}" if moment.message else ""
    match moment.kind:
        case "placed":
            return f"goes to {moment.node}"
        case "running" | "complete" | "failed":
            verb = {"running": "runs", "complete": "completed", "failed": "failed"}[moment.kind]
            return f"{verb} on {moment.node}{said}"
        case "healthy" | "unhealthy":
            return f"is {moment.kind} on {moment.node}{said}"
        case "waiting":
            return f"waits{said}"
        case "stopping":
            return f"is told to stop on {moment.node}{said}"
        case "shutdown":
            return f"has stopped on {moment.node}"
        case "lost":
            return f"is lost with {moment.node}"
        case "rejected":
            return f"could not start on {moment.node}{said}"
        case _:
            return moment.message


def _together(group: Sequence[Moment]) -> str:
    first = group[0]
    verb = {
        "placed": "have a node",
        "running": "run",
        "complete": "completed",
        "failed": "failed",
        "healthy": "are healthy",
        "unhealthy": "are unhealthy",
        "waiting": "wait",
        "stopping": "are told to stop",
        "shutdown": "have stopped",
        "lost": "are lost with their nodes",
        "rejected": "could not start",
    }[first.kind]
    said = f": {first.message}" if first.message else ""
    by_node: dict[str, int] = {}
    for one in group:
        if one.node is not None:
            by_node[one.node] = by_node.get(one.node, 0) + 1
    where = ", ".join(f"{number} on {node}" for node, number in sorted(by_node.items())[:MAX_NAMED])
    more = len(by_node) - MAX_NAMED
    if more > 0:
        where += f", and on {count(more, 'more node')}"
    return f"{len(group)} tasks {verb}{f' ({where})' if where else ''}{said}"


# --- the end ------------------------------------------------------------------------------------


def services(found: Forecast) -> Listing:
    """How each service ends up; those to which nothing happens come last."""
    ordered = sorted(found.services, key=lambda one: (_is_calm(one), one.name))
    return Listing(
        columns=(
            Column("SERVICE", "name"),
            Column("BEFORE", lambda row: f"{row['serving_before']}/{row['wanted_before']}"),
            Column("AFTER", lambda row: f"{row['serving']}/{row['wanted']}"),
            Column("LONGEST OUTAGE", "outage"),
            Column("LONGEST SHORT", "short"),
            Column("MOVES", "moves"),
        ),
        rows=[
            {
                "name": one.name,
                "serving_before": one.serving_before,
                "wanted_before": one.wanted_before,
                "serving": one.serving,
                "wanted": one.wanted,
                "outage": _how_long(one.longest_outage_ms, goes_on=one.is_out),
                "short": _how_long(one.longest_short_ms, goes_on=one.is_short),
                "moves": _moves(one.moved),
            }
            for one in ordered
        ],
    )


def _is_calm(one: ServiceForecast) -> bool:
    return not (one.longest_short_ms or one.moved or one.down)


def _how_long(ms: int, *, goes_on: bool) -> str:
    return f"{lasting(ms)}, goes on" if goes_on else lasting(ms) if ms else ""


def _moves(moved: Sequence[Move]) -> str:
    """`2: n2 to n3`, slot by slot, as many as fit; the rest in numbers."""
    told = [_move(one) for one in moved[:MAX_NAMED]]
    more = len(moved) - len(told)
    return "; ".join([*told, *([f"{more} more"] if more > 0 else [])])


def _move(one: Move) -> str:
    slot = one.slot.rpartition(".")[2]
    if slot in (one.from_node, one.to_node):  # of a global service
        return f"{slot} is gone" if one.to_node is None else f"{slot} is new"
    if one.to_node is None:
        return f"{slot} left {one.from_node}"
    if one.from_node is None:
        return f"{slot} to {one.to_node}"
    return f"{slot} from {one.from_node} to {one.to_node}"


def what_stays_down(found: Forecast) -> Iterator[str]:
    """Each slot that does not serve in the end, and why; and where rollouts stand."""
    for one in found.services:
        for sentence in one.summary:
            yield f"{one.name}: {sentence}"
        for down in one.down:
            yield from _down(down)


def _down(down: Down) -> Iterator[str]:
    verb = "was down before, and stays so" if down.was_down else "stays down"
    said = f": {down.message}" if down.message else ""
    if down.refusals:
        yield ""  # a paragraph of its own
    yield f"{down.slot} {verb} ({down.state}){said}"
    for node, reasons in down.refusals.items():
        yield f"  {node} {', and '.join(reasons) or 'could take it'}"


def lasting(ms: int) -> str:
    """A duration for a table: `0.8s`, `42.0s`, `3m05s`, `2h00m`."""
    if ms < 60_000:
        return f"{ms / 1_000:.1f}s"
    minutes, seconds = divmod(ms // 1_000, 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02}s" if seconds else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if minutes else f"{hours}h"
