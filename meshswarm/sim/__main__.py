"""`python3 -m meshswarm.sim`: run seeds, say what happened, and how to repeat what broke."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from meshswarm.sim import run
from meshswarm.sim.faults import Fault


def main() -> int:
    """0 if nothing broke, else 1."""
    arguments = _parser().parse_args()
    if arguments.idle is not None:
        return _idle(arguments.idle, arguments.managers)
    listener = print if arguments.verbose else None
    began, runs, simulated_ms, counts = time.process_time(), 0, 0, Counter[str]()
    for seed in _seeds(arguments):
        result = run.run(
            seed,
            safety_ms=arguments.ms,
            managers=arguments.managers,
            kinds=arguments.faults,
            listener=listener,
        )
        runs += 1
        simulated_ms += result.simulated_ms
        counts.update(result.counts)
        if result.violation is not None:
            print(_in_words(result))
            print(f"repeat it with: {_command(seed, arguments)}")
            return 1
        if arguments.seed is not None:
            print(_in_words(result))
    _print_speed(f"{runs} runs, nothing broke", simulated_ms, time.process_time() - began)
    print(f"  {_listed(counts)}")
    return 0


def _parser() -> argparse.ArgumentParser:
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
    parser.add_argument("--ms", type=_count, default=run.SAFETY_MS, help="of trouble in each run")
    parser.add_argument("--managers", type=_count, default=3, metavar="N")
    kinds = ", ".join(kind.value for kind in Fault)
    parser.add_argument("--faults", type=_faults, metavar="A,B", help=f"only these: {kinds}")
    parser.add_argument("--verbose", action="store_true", help="print everything that happens")
    return parser


def _command(seed: int, arguments: argparse.Namespace) -> str:
    command = f"python3 -m meshswarm.sim --seed {seed} --ms {arguments.ms}"
    command += f" --managers {arguments.managers}"
    if arguments.faults is not None:
        command += f" --faults {','.join(kind.value for kind in arguments.faults)}"
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
        return _until(time.monotonic() + 60 * arguments.minutes)
    seeds: range = arguments.seeds
    return seeds


def _until(deadline: float) -> Iterator[int]:
    seed = time.time_ns() // 1_000_000
    while time.monotonic() < deadline:
        yield seed
        seed += 1


def _in_words(result: run.Result) -> str:
    verdict = "BROKEN: " + result.violation if result.violation else "nothing broke"
    return (
        f"seed {result.seed}: {verdict}\n"
        f"  {result.simulated_ms / 1_000:g} s simulated, whole {result.whole_after_ms} ms after "
        f"the trouble, trace {result.digest}\n  {_listed(result.counts)}"
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def _idle(seconds: int, managers: int) -> int:
    began = time.process_time()
    result = run.idle(1, managers=managers, simulated_ms=1_000 * seconds)
    _print_speed(f"{managers} nodes at rest", result.simulated_ms, time.process_time() - began)
    return 0


def _print_speed(what: str, simulated_ms: int, cpu_s: float) -> None:
    speed = simulated_ms / 1_000 / max(cpu_s, 1e-9)
    print(
        f"{what}: {simulated_ms / 1_000:g} s of a cluster's life in {cpu_s:.1f} s of processor "
        f"time, {speed:.0f} to one"
    )


if __name__ == "__main__":
    sys.exit(main())
