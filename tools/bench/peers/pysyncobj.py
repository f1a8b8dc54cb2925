"""Three PySyncObj nodes on loopback under the writes that meshswarm gets.

The library is embedded, so the load runs inside the leader's process; its journal is on, but never
synced to disk. It knows neither transactions nor linearizable reads. Needs the package pysyncobj.
"""

import importlib
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FIRST_PORT = 24_100
NODES = 3
KEYS = 10_000
PAYLOAD_BYTES = 256
WARM_UP_S = 1.0
PATIENCE_S = 30.0


class PySyncObj:
    """A running cluster."""

    def __init__(self, directory: Path) -> None:
        self._nodes = [
            subprocess.Popen(
                [sys.executable, "-m", __spec__.name, str(number), str(directory / f"j{number}")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for number in range(NODES)
        ]

    def leader(self) -> int:
        """The node that all take for the leader."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            told = {self._ask(number, ["leader"]) for number in range(NODES)}
            if len(told) == 1 and (port := told.pop()) is not None:
                return int(port) - FIRST_PORT
            time.sleep(0.1)
        raise TimeoutError("PySyncObj has no leader")

    def load(self, clients: int, seconds: float) -> dict[str, float]:
        """The figures of writes with so many under way, on the leader."""
        figures: dict[str, float] = self._ask(self.leader(), ["load", clients, seconds])
        return figures

    def stop(self) -> None:
        """End every node."""
        for node in self._nodes:
            node.kill()
            node.communicate()

    def _ask(self, number: int, question: list[object]) -> Any:
        node = self._nodes[number]
        assert node.stdin is not None
        assert node.stdout is not None
        node.stdin.write(json.dumps(question) + "\n")
        node.stdin.flush()
        return json.loads(node.stdout.readline())


@contextmanager
def pysyncobj() -> Iterator[PySyncObj]:
    """A running cluster; stopped and removed at the end."""
    if importlib.util.find_spec("pysyncobj") is None:
        hint = f"{sys.executable} -m pip install pysyncobj"
        raise SystemExit(f"error: no pysyncobj here\nhint: {hint}")
    with tempfile.TemporaryDirectory(prefix="meshswarm-pysyncobj-") as directory:
        cluster = PySyncObj(Path(directory))
        try:
            cluster.leader()
            yield cluster
        finally:
            cluster.stop()


# --- in a node's process --------------------------------------------------------------------------


def main() -> None:
    """One node: answers questions, a JSON line each, until its input ends."""
    library: Any = importlib.import_module("pysyncobj")  # no types, and not always there

    class Store(library.SyncObj):  # type: ignore[misc]
        """The state: one value for each key."""

        def __init__(self, me: str, others: list[str], conf: object) -> None:
            self.values: dict[str, bytes] = {}
            super().__init__(me, others, conf)

        @library.replicated  # type: ignore[untyped-decorator]
        def put(self, key: str, value: bytes) -> None:
            """Set one value."""
            self.values[key] = value

    number, journal = int(sys.argv[1]), sys.argv[2]
    addresses = [f"127.0.0.1:{FIRST_PORT + other}" for other in range(NODES)]
    me = addresses.pop(number)
    store = Store(
        me, addresses, library.SyncObjConf(journalFile=journal, commandsQueueSize=1_000_000)
    )
    for line in sys.stdin:
        match json.loads(line):
            case ["leader"]:
                leader = store._getLeader()
                answer: object = int(str(leader).rpartition(":")[2]) if leader else None
            case ["load", clients, seconds]:
                answer = load(store.put, clients, seconds)
            case other:
                raise ValueError(f"no such question: {other}")
        print(json.dumps(answer), flush=True)


def load(put: Callable[..., None], clients: int, seconds: float) -> dict[str, float]:
    """Writes, at most `clients` of them unanswered; those begun after the warm-up count."""
    rest, draw = os.urandom(PAYLOAD_BYTES - 8), random.Random().randrange
    places, times = threading.Semaphore(clients), []
    measured = time.perf_counter() + WARM_UP_S
    ends = measured + seconds

    def answered(began: float) -> Callable[[object, object], None]:
        def note(_: object, error: object) -> None:
            places.release()
            if not error and began >= measured:
                times.append(time.perf_counter() - began)

        return note

    number = 0
    while time.perf_counter() < ends:
        if places.acquire(timeout=1):
            number += 1
            value = number.to_bytes(8, "big") + rest
            put(f"k{draw(KEYS):08d}", value, callback=answered(time.perf_counter()))
    for _ in range(clients):
        places.acquire(timeout=5)
    elapsed_s = time.perf_counter() - measured
    ordered = sorted(times)
    return {
        "ops_s": round(len(ordered) / elapsed_s),
        "p50_ms": round(1_000 * ordered[len(ordered) // 2], 3),
        "p99_ms": round(1_000 * ordered[len(ordered) * 99 // 100], 3),
    }


if __name__ == "__main__":
    main()
