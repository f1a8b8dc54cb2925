"""`python3 -m meshswarm.sim`: run seeds, say what happened, and how to repeat what broke."""

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from meshswarm.sim import ideal_run, run
from meshswarm.sim._batch import play_all
from meshswarm.sim.faults import Fault

NEWS_S = 60
"""How often a long batch says how far it is."""


def main() -> int:
    """0 if nothing broke, else 1."""
    arguments = parser().parse_args()
    if arguments.idle is not None:
        return _idle(arguments)
    began, told, tally = time.monotonic(), time.monotonic(), Tally()
    for result, cpu_s in play_all(playing(arguments), _seeds(arguments), arguments.jobs):
        tally.add(result, cpu_s)
        if result.violation is not None:
            print(_in_words(result))
            print(f"repeat it with: {_command(result.seed, arguments)}")
            return 1
        if arguments.seed is not None:
            print(_in_words(result))
        if time.monotonic() - told > NEWS_S:
            told = time.monotonic()
            print(tally.in_words(told - began), flush=True)
    print(tally.in_words(time.monotonic() - began))
    print(f"  {_listed(tally.counts)}")
    return 0


class Tally:
    """What came of many runs that held."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._runs = 0
        self._simulated_ms: Counter[str] = Counter()
        self._cpu_s: defaultdict[str, float] = defaultdict(float)

    def add(self, result: run.Result, cpu_s: float) -> None:
        """Count one more."""
        self._runs += 1
        self.counts.update(result.counts)
        self._simulated_ms[result.world] += result.simulated_ms
        self._cpu_s[result.world] += cpu_s

    def in_words(self, took_s: float) -> str:
        """How many, how long, how fast."""
        speeds = [
            f"{_speed(self._simulated_ms[world], cpu_s)} ({world} worlds)"
            for world, cpu_s in sorted(self._cpu_s.items())
        ]
        return f"{self._runs} runs in {took_s:.0f} s, nothing broke: {', '.join(speeds)}"


# --- the command line ---------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line; the files of `tests/sim/regressions` are read by it too."""
    parser = argparse.ArgumentParser(
        prog="python3 -m meshswarm.sim",
        description="Run clusters in a simulated world, under faults, each from its seed.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, metavar="N", help="run one seed, and tell more of it")
    which.add_argument(
        "--seeds", type=_range, default=range(1, 21), metavar="A..B", help="run these (1..20)"
    )
    which.add_argument("--minutes", type=float, help="run new seeds for so long")
    which.add_argument("--idle", type=_count, metavar="S", help="measure a cluster at rest")
    parser.add_argument("--at-most-s", type=_count, metavar="S", help="begin no seed after that")
    parser.add_argument("--jobs", type=_count, default=1, metavar="N", help="processes (1)")
    parser.add_argument("--ms", type=_count, default=run.SAFETY_MS, help="of trouble in each run")
    parser.add_argument("--managers", type=_count, default=3, metavar="N")
    kinds = ", ".join(kind.value for kind in Fault)
    parser.add_argument("--faults", type=_faults, metavar="A,B", help=f"only these: {kinds}")
    parser.add_argument(
        "--world",
        choices=("bare", "whole", "ideal"),
        help="managers alone, with tasks, or tasks without consensus; bare or whole by chance",
    )
    parser.add_argument("--verbose", action="store_true", help="print everything that happens")
    return parser


def playing(arguments: argparse.Namespace) -> Callable[[int], run.Result]:
    """What runs one seed as these arguments say."""
    listener = print if arguments.verbose else None
    if arguments.world == "ideal":
        return partial(ideal_run.run, safety_ms=arguments.ms, listener=listener)
    return partial(
        run.run,
        safety_ms=arguments.ms,
        managers=arguments.managers,
        kinds=arguments.faults,
        is_bare=None if arguments.world is None else arguments.world == "bare",
        listener=listener,
    )


def _command(seed: int, arguments: argparse.Namespace) -> str:
    command = f"python3 tools/run.py sim --seed {seed} --ms {arguments.ms}"
    command += f" --managers {arguments.managers}"
    if arguments.faults is not None:
        command += f" --faults {','.join(kind.value for kind in arguments.faults)}"
    if arguments.world is not None:
        command += f" --world {arguments.world}"
    return f"{command} --verbose"


def _faults(text: str) -> tuple[Fault, ...]:
    return tuple(Fault(name) for name in text.split(","))


def _range(text: str) -> range:
    first, _, last = text.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    if not seeds:
        raise argparse.ArgumentTypeError(f"no seeds in {text}")
    return seeds


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return int(text)


def _seeds(arguments: argparse.Namespace) -> Iterable[int]:
    if arguments.seed is not None:
        return [arguments.seed]
    if arguments.minutes is not None:
        return _until(_new_seeds(), time.monotonic() + 60 * arguments.minutes)
    seeds: range = arguments.seeds
    if arguments.at_most_s is None:
        return seeds
    return _until(seeds, time.monotonic() + arguments.at_most_s)


def _new_seeds() -> Iterator[int]:
    seed = time.time_ns() // 1_000_000
    while True:
        yield seed
        seed += 1


def _until(seeds: Iterable[int], deadline: float) -> Iterator[int]:
    for seed in seeds:
        if time.monotonic() >= deadline:
            return
        yield seed


def _in_words(result: run.Result) -> str:
    verdict = "BROKEN: " + result.violation if result.violation else "nothing broke"
    return (
        f"seed {result.seed}: {verdict}\n"
        f"  {result.simulated_ms / 1_000:g} s simulated, whole {result.whole_after_ms} ms after "
        f"the trouble, trace {result.digest}\n  {_listed(result.counts)}"
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def _idle(arguments: argparse.Namespace) -> int:
    began = time.process_time()
    is_bare = arguments.world == "bare"
    simulated_ms = 1_000 * arguments.idle
    run.idle(1, managers=arguments.managers, simulated_ms=simulated_ms, is_bare=is_bare)
    speed = _speed(simulated_ms, time.process_time() - began)
    print(f"{arguments.managers} {'managers' if is_bare else 'nodes'} at rest: {speed}")
    return 0


def _speed(simulated_ms: int, cpu_s: float) -> str:
    speed = simulated_ms / 1_000 / max(cpu_s, 1e-9)
    return (
        f"{simulated_ms / 1_000:.0f} s of a cluster's life in {cpu_s:.1f} s of processor time, "
        f"{speed:.0f} to one"
    )


if __name__ == "__main__":
    sys.exit(main())
