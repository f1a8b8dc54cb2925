"""One round: a cluster, clients on it, a seeded schedule of faults, then healing and a verdict.

The seed draws the settings, the schedule and, at each fault, whom it hits; the operating system
draws the rest, so the same seed repeats the schedule and not the run.
"""

import asyncio
import bisect
import contextlib
import itertools
import json
import math
import random
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attrs import define, field, frozen

from meshswarm.errors import Unavailable
from meshswarm.store.commands import PutConfig
from meshswarm.store.view import View
from tools.chaos import journals
from tools.chaos.arena import MANAGED, Arena, opened
from tools.chaos.check import findings
from tools.chaos.cluster import Disk, Exit
from tools.chaos.faults import FAULTS, Chance
from tools.chaos.history import Kind, Operation, Outcome, operations_in, value_of
from tools.rig.rig import can_freeze

WEIGHT_BYTES = 64 << 10
WEIGHT_EVERY_S = 0.2

HEALED_S = 20.0
"""After healing, each manager must acknowledge a write within this time."""

NO_ROOM_TO_START = re.compile("the data directory cannot be written: No space left")
CHANGEABLE = (sys.executable, "-m", "tools.chaos.changeable")
BROKEN_WORDS = re.compile(r"Traceback|AssertionError|consensus failed|never retrieved")


@frozen(kw_only=True)
class Step:
    """One fault of a schedule."""

    number: int
    at_s: float
    for_s: float
    kind: str


@frozen(kw_only=True)
class Plan:
    """All that is decided before a round begins."""

    seed: int
    seconds: float
    kinds: tuple[str, ...]
    managers: int
    steps: tuple[Step, ...]
    settings: Mapping[str, str]
    """Of the managers, as environment variables."""
    weights: int = 0
    """So many configs of 64 KiB lie in the state, and in each snapshot, and are rewritten."""
    disk: Disk = Disk.SHARED
    command: tuple[str, ...] = MANAGED


@define
class Verdict:
    """What came of a round."""

    violations: list[str] = field(factory=list)
    figures: dict[str, object] = field(factory=dict)
    kept: Path | None = None
    """Where histories, logs and data are, if they were kept."""


def planned(seed: int, seconds: float, kinds: Sequence[str], managers: int) -> Plan:
    """The plan that this seed stands for."""
    dice = random.Random(f"{seed}/{seconds:g}/{','.join(kinds)}/{managers}")
    heartbeat_ms, election_ms = dice.choice([(100, 1000), (50, 500)])
    settings = {
        "MESHSWARM_RAFT_HEARTBEAT_MS": str(heartbeat_ms),
        "MESHSWARM_RAFT_ELECTION_TIMEOUT_MS": str(election_ms),
        "MESHSWARM_RAFT_SNAPSHOT_ENTRIES": dice.choice(["100", "300", "2000"]),
        "MESHSWARM_RAFT_TRAILING_ENTRIES": dice.choice(["0", "20", "200"]),
        "MESHSWARM_RAFT_MAX_INFLIGHT": dice.choice(["1", "4", "16"]),
        "MESHSWARM_RAFT_MAX_APPEND_BYTES": dice.choice(["1048576", "2097152"]),
    }
    return Plan(
        seed=seed,
        seconds=seconds,
        kinds=tuple(kinds),
        managers=managers,
        steps=tuple(_steps(dice, seconds, kinds)),
        settings=settings,
        weights=dice.choice([0, 0, 64]),
        disk=_disk(kinds),
        command=CHANGEABLE if "members" in kinds else MANAGED,
    )


def _disk(kinds: Sequence[str]) -> Disk:
    """The least that these faults need, as far as this machine has it."""
    if "stall" in kinds and can_freeze():
        return Disk.FREEZABLE
    return Disk.SMALL if "diskfull" in kinds else Disk.SHARED


def _steps(dice: random.Random, seconds: float, kinds: Sequence[str]) -> Iterator[Step]:
    """Faults one after the other, some of them overlapping, every kind in its turn."""
    at_s, number, left = 1.5, 0, list[str]()
    while True:
        if not left:
            left = list(kinds)
            dice.shuffle(left)
        for_s = dice.uniform(0.5, 2.5) if dice.random() < 0.5 else dice.uniform(2.5, 7.0)
        if at_s + for_s > seconds:
            return
        yield Step(number=number, at_s=at_s, for_s=for_s, kind=left.pop())
        overlaps = dice.random() < 0.3
        at_s += dice.uniform(0.2, for_s) if overlaps else for_s + dice.uniform(0.3, 3.0)
        number += 1


async def played(plan: Plan, *, keep: bool = False) -> Verdict:
    """Play the round and judge it; what it left is kept if it is bad, or if asked for."""
    verdict, is_over = Verdict(), False
    async with opened(
        plan.managers,
        environment=plan.settings,
        disk=plan.disk,
        command=plan.command,
    ) as arena:
        try:
            await _Round(plan, arena, verdict).play()
            is_over = True
        except* (TimeoutError, AssertionError, RuntimeError) as errors:
            verdict.violations += [f"{type(error).__name__}: {error}" for error in leaves(errors)]
            verdict.violations += findings(operations_in(arena.rig.scratch))
        finally:
            if keep or verdict.violations or not is_over:
                _keep(arena, verdict)
    return verdict


def _keep(arena: Arena, verdict: Verdict) -> None:
    arena.cluster.save_disks()
    verdict.kept = arena.rig.keep_scratch()
    told = {"violations": verdict.violations, **verdict.figures}
    (verdict.kept / "verdict.json").write_text(json.dumps(told, indent=1))


def leaves(errors: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    """The errors in a group, however deep."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


class _Round:
    def __init__(self, plan: Plan, arena: Arena, verdict: Verdict) -> None:
        self._plan = plan
        self._arena = arena
        self._verdict = verdict
        self._began = time.monotonic()
        self._words: list[tuple[float, float, str]] = []
        """From when until when there was which fault."""

    async def play(self) -> None:
        """All of it."""
        arena = self._arena
        self._began = time.monotonic()
        load = arena.begin_load()
        async with asyncio.TaskGroup() as group:
            progress = group.create_task(self._tell_progress(), name="progress")
            weights = group.create_task(self._rewrite_weights(), name="weights")
            await self._break()
            self.say("healed")
            await self._heal()
            progress.cancel()
            weights.cancel()
        await arena.end_load(load)
        view = await arena.same_states()
        operations = operations_in(arena.rig.scratch) + _read_back(arena, view)
        self._verdict.figures |= self._figures(operations) | self._recoveries(operations)
        self._verdict.violations += findings(operations)
        await arena.stopped()
        self._judge_managers()
        self._verdict.violations += await journals.findings(arena.cluster)

    async def _rewrite_weights(self) -> None:
        """Keep the state heavy, a config after the other."""
        for number in itertools.cycle(range(self._plan.weights)):
            data = random.randbytes(WEIGHT_BYTES)
            with contextlib.suppress(Unavailable):
                await self._arena.client.propose(PutConfig(name=f"w{number}", data=data))
            await asyncio.sleep(WEIGHT_EVERY_S)

    async def _break(self) -> None:
        """Carry the schedule out; returns when every fault has ended and the time is over."""
        async with asyncio.TaskGroup() as group:
            for step in self._plan.steps:
                group.create_task(self._fault(step), name=f"fault {step.number}")
            group.create_task(self._sleep_until(self._plan.seconds), name="time")

    async def _fault(self, step: Step) -> None:
        await self._sleep_until(step.at_s)
        dice = random.Random(f"{self._plan.seed}/{step.number}")
        begun = await FAULTS[step.kind](Chance(self._arena, dice))
        if begun is None:
            self.say(f"no room for {step.kind}")
            return
        number, at = f"{step.number:3}", time.monotonic()
        self.say(f"{number} begins  {begun.words}")
        try:
            await self._sleep_until(step.at_s + step.for_s)
        finally:
            begun.end()
        if begun.finish is not None:
            await begun.finish()
        self._words.append((at, time.monotonic(), f"{step.kind}: {begun.words}"))
        self.say(f"{number} ends    {begun.words}")

    async def _heal(self) -> None:
        """Everything is whole again: soon every manager must serve."""
        arena = self._arena
        async with asyncio.TaskGroup() as group:
            waits = [
                group.create_task(arena.writable(name, HEALED_S), name=f"writable {name}")
                for name in arena.cluster.names
            ]
        self._verdict.figures["healed_s"] = round(max(wait.result() for wait in waits), 2)
        await arena.settled()

    async def _tell_progress(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(5)
            well, ended = self._arena.new_operations()
            seconds = time.monotonic() - before
            rates = f"{well / seconds:.0f} of {ended / seconds:.0f} ops/s"
            self.say(f"    {rates}, {self._arena.in_words()}")

    async def _sleep_until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, self._began + at_s - time.monotonic()))

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    # --- the verdict ------------------------------------------------------------------------------

    def _judge_managers(self) -> None:
        """Who ended by itself, or said what nobody should have to say."""
        for manager in self._arena.cluster.managers.values():
            told = [_told(exit_) for exit_ in manager.exits if not _was_full(exit_)]
            self._verdict.violations += [*told, *_broken_lines(manager.log)]

    def _recoveries(self, operations: Sequence[Operation]) -> dict[str, object]:
        """How long after each end of all faults a write was acknowledged, if it was quiet so long.

        Figures only: the end of them all is judged, by `_heal`.
        """
        acknowledged = sorted(
            op.returned_ns / 1e9
            for op in operations
            if op.kind is not Kind.READ and op.outcome is Outcome.OK
        )
        waits = []
        for begin, end in self._quiet_times():
            position = bisect.bisect_left(acknowledged, begin)
            first = acknowledged[position] if position < len(acknowledged) else math.inf
            if first < end:
                waits.append(first - begin)
        return {
            "recovered_s_p50": round(statistics.median(waits), 2) if waits else None,
            "recovered_s_max": round(max(waits), 2) if waits else None,
        }

    def _quiet_times(self) -> Iterator[tuple[float, float]]:
        """From when until when no fault was under way."""
        quiet_since = self._began
        for begin, end, _ in sorted(self._words):
            if begin > quiet_since:
                yield quiet_since, begin
            quiet_since = max(quiet_since, end)
        yield quiet_since, self._began + self._plan.seconds

    def _figures(self, operations: Sequence[Operation]) -> dict[str, object]:
        arena = self._arena
        changes = [op for op in operations if op.kind is not Kind.READ]
        acknowledged = sorted(op.returned_ns / 1e9 for op in changes if op.outcome is Outcome.OK)
        gap_s, gap_at = max(
            ((later - earlier, earlier) for earlier, later in itertools.pairwise(acknowledged)),
            default=(0.0, 0.0),
        )
        meanwhile = [w for begin, end, w in self._words if begin < gap_at + gap_s and end > gap_at]
        logs = [
            manager.log.read_text(errors="replace") for manager in arena.cluster.managers.values()
        ]
        counts = {
            outcome.value: sum(op.outcome is outcome for op in operations) for outcome in Outcome
        }
        return {
            "seconds": self._plan.seconds,
            "faults": len(self._words),
            "weights": self._plan.weights,
            "disk": self._plan.disk.value,
            "operations": len(operations),
            **counts,
            "writes_acknowledged": len(acknowledged),
            "ops_s": round(counts["ok"] / self._plan.seconds, 1),
            "longest_gap_s": round(gap_s, 2),
            "longest_gap_at_s": round(gap_at - self._began, 1),
            "longest_gap_during": meanwhile,
            "starved_s": round(arena.cluster.starved_s, 1),
            "leaders": len(arena.leaders_seen),
            "term": max(status.term for status in arena.statuses.values()),
            "snapshots_installed": sum(log.count("installed a snapshot") for log in logs),
            "restarts_by_supervisor": sum(
                len(manager.exits) for manager in arena.cluster.managers.values()
            ),
            "rss_mb_median": round(
                statistics.median(b for bs in arena.rss_bytes.values() for b in bs) / 1e6, 1
            ),
            "rss_mb_max": round(max(b for bs in arena.rss_bytes.values() for b in bs) / 1e6, 1),
        }


def _read_back(arena: Arena, view: View) -> list[Operation]:
    """The last view of all managers, as reads of every key."""
    keys = {operation.key for operation in operations_in(arena.rig.scratch)}
    now = time.monotonic_ns()
    return [
        Operation(
            client="at the end",
            key=key,
            kind=Kind.READ,
            outcome=Outcome.OK,
            invoked_ns=now,
            returned_ns=now,
            value=value_of(view, key)[0],
            index=view.index,
        )
        for key in sorted(keys)
    ]


def _was_full(exit_: Exit) -> bool:
    """Whether a manager did not start because its disk was full; one that runs waits it out."""
    return exit_.code == 7 and NO_ROOM_TO_START.search(exit_.last_words) is not None


def _told(exit_: Exit) -> str:
    return f"ENDED: {exit_.manager} with code {exit_.code}; its last words:\n{exit_.last_words}"


def _broken_lines(log: Path) -> list[str]:
    """What a manager must not have to say, with a few lines around it."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines):
        if BROKEN_WORDS.search(line):
            around = "\n    ".join(lines[max(0, number - 2) : number + 25])
            return [f"BROKEN: {log.name}:{number + 1}\n    {around}"]
    return []
