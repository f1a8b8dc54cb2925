"""One fuzz target for a while: `python -m tools.fuzz TARGET [--seconds N] [ARGUMENT ...]`.

Coverage guides what is tried next. What was found interesting stays in `build/fuzz/TARGET`, so the
next run goes on from there; a finding is written beside it as `build/fuzz/TARGET-crash-...`, and
`python3 tools/run.py fuzz TARGET FILE` repeats it. Further arguments go to libFuzzer.
"""

import argparse
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["meshswarm", "cbor2", "cattrs", "ruamel"]):
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[1] / "build" / "fuzz"

MEMORY_MB = 1_024
"""No input of a few kilobytes may bring the process there ..."""

ALLOCATION_MB = 64
"""... nor ask for so much at once ..."""

INPUT_S = 20
"""... nor take so long."""


def main(arguments: list[str]) -> None:
    """Fuzz the target that the arguments name; ends the process."""
    parser = argparse.ArgumentParser(prog="python3 tools/run.py fuzz", description=told())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: 60)")
    given, others = parser.parse_known_args(arguments)
    corpus = ROOT / given.target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(given.target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    files = [other for other in others if not other.startswith("-")]
    options = [
        f"-max_total_time={given.seconds}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-malloc_limit_mb={ALLOCATION_MB}",
        f"-timeout={INPUT_S}",
        f"-artifact_prefix={corpus}-",
        "-len_control=0",  # long inputs from the start: most readers want a good deal
        "-print_final_stats=1",
        *(other for other in others if other.startswith("-")),
    ]
    atheris.Setup([sys.argv[0], *options, *(files or [str(corpus)])], TARGETS[given.target])
    atheris.Fuzz()


def told() -> str:
    """The targets, a line each."""
    first = {name: (target.__doc__ or "").splitlines()[0] for name, target in TARGETS.items()}
    return "\n".join(["targets:", *(f"  {name:<15}{line}" for name, line in first.items())])


if __name__ == "__main__":
    main(sys.argv[1:])
