"""Real processes, killed or refused by the disk at any point: what they acknowledged is there."""

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from meshswarm.cluster.journal import Recovered
from tests.cluster.journal_world import IN_FLIGHT, number_of, open_journal

ROUNDS = 6


def start(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.journal_world", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )


def reopened(directory: Path) -> Recovered:
    async def read() -> Recovered:
        journal, recovered = open_journal(directory)
        await journal.close()
        return recovered

    return asyncio.run(read())


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_s62_every_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    rng = random.Random(1)
    number = 0
    for round_number in range(1, ROUNDS + 1):
        with start("live", tmp_path, number) as process:
            assert process.stdout is not None
            acknowledged = number
            for _ in range(rng.randint(1, 250)):
                acknowledged = int(process.stdout.readline())
            process.kill()
            for line in process.stdout:
                if line.endswith("\n"):
                    acknowledged = int(line)
        recovered = reopened(tmp_path)
        assert recovered.damage is None
        # Each round opens twice: the process that is killed, and this test.
        assert recovered.incarnation == 2 * round_number
        number = number_of(recovered, range(acknowledged, acknowledged + IN_FLIGHT + 1))


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("limit", [150_000, 300_001, 1_000_000])
def test_a_full_disk_stops_the_journal_and_loses_nothing(tmp_path: Path, limit: int) -> None:
    with start("fill", tmp_path, limit) as process:
        output, _ = process.communicate(timeout=50)
    assert process.returncode == 0
    *numbers, refusal = output.splitlines()
    assert refusal.startswith("refused corrupt: the disk refused the journal")
    recovered = reopened(tmp_path)
    assert recovered.damage is None
    acknowledged = int(numbers[-1])
    number_of(recovered, range(acknowledged, acknowledged + 2))
