"""What a cluster costs that does nothing: processor and memory of each of three nodes.

    python3 tools/run.py bench idle [--seconds 20]

idle_node   one line a node: share of one core in percent over the time, resident memory in MB
"""

import argparse
import os
import time

from tools.bench.lab import cluster, emit

TICKS = os.sysconf("SC_CLK_TCK")
SETTLE_S = 5.0


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Watch an idle cluster and print each node's figures."""
    parser = argparse.ArgumentParser(prog="bench idle", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    with cluster() as lab:
        nodes = lab.nodes()
        pids = {str(row["name"]): int(str(row["pid"])) for row in nodes}
        time.sleep(SETTLE_S)
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        time.sleep(seconds)
        for row in nodes:
            name = str(row["name"])
            emit(
                "idle",
                "idle_node",
                node=name,
                leader=row["leader"],
                cpu_percent=round(100 * (cpu_s(pids[name]) - before[name]) / seconds, 2),
                rss_mb=round(resident_mb(pids[name]), 1),
            )


if __name__ == "__main__":
    main()
