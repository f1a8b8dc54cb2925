"""How long a person waits: a cluster from nothing, the help, a listing.

    python3 tools/run.py bench start [--runs 5]

dev_detach   `meshswarm dev --detach --deploy config/demo/compose.yml` until the demo's replicas run
dev_resume   the same directory again, after `dev stop`
help         `meshswarm --help`
service_ps   `meshswarm service ps` of a running service
"""

import argparse
import asyncio
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tools.bench.lab import Lab, all_run, command, emit, say, seen, spread

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "config" / "demo" / "compose.yml"


def timed_ms(work: Callable[[], object]) -> float:
    """How long the work took."""
    began = time.perf_counter()
    work()
    return 1_000 * (time.perf_counter() - began)


async def demo_runs(lab: Lab) -> None:
    """Return once the demo's replicas run."""
    async with lab.client() as client:
        await seen(client, lambda view: all_run(view, "demo_web", "demo_greeter"))


def up(lab: Lab, *arguments: str) -> None:
    """Bring the cluster up and wait for the demo."""
    lab.dev("--detach", *arguments)
    asyncio.run(demo_runs(lab))


def main() -> None:
    """Measure each case and print its figures."""
    parser = argparse.ArgumentParser(prog="bench start", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    fresh: list[float] = []
    resumed: list[float] = []
    listing: list[float] = []
    for number in range(runs):
        with tempfile.TemporaryDirectory(prefix="meshswarm-bench-") as directory:
            lab = Lab(Path(directory) / "dev")
            try:
                fresh.append(timed_ms(partial(up, lab, "--deploy", str(DEMO))))
                listing.append(timed_ms(partial(lab.run, "service", "ps", "demo_web")))
                lab.dev("stop")
                resumed.append(timed_ms(partial(up, lab)))
            finally:
                lab.dev("stop")
        say(f"start {number + 1}/{runs}: {fresh[-1]:.0f} ms, again {resumed[-1]:.0f} ms")
    help_ms = [
        timed_ms(lambda: subprocess.run(command("--help"), capture_output=True, check=True))
        for _ in range(max(runs, 9))
    ]
    emit("start", "dev_detach", **spread(fresh, "ms"))
    emit("start", "dev_resume", **spread(resumed, "ms"))
    emit("start", "help", **spread(help_ms, "ms"))
    emit("start", "service_ps", **spread(listing, "ms"))


if __name__ == "__main__":
    main()
