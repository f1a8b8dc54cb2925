"""Equal seeds, equal runs: to the last message, in every interpreter."""

import os
import re
import subprocess
import sys

import pytest

from meshswarm.sim.run import run

TROUBLE_MS = 10_000


def test_a_seed_repeats_itself_and_no_other() -> None:
    first, again, other = (run(seed, safety_ms=TROUBLE_MS) for seed in (3, 3, 4))
    assert first == again
    assert first.digest != other.digest


@pytest.mark.slow
def test_a_fresh_interpreter_with_other_hashes_repeats_it() -> None:
    def digest(hash_seed: str) -> str:
        command = [sys.executable, "-m", "meshswarm.sim", "--seed", "5", "--ms", str(TROUBLE_MS)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr
        found = re.search(r"trace (\w+)", done.stdout)
        assert found is not None, done.stdout
        return found[1]

    assert {run(5, safety_ms=TROUBLE_MS).digest} == {digest("1"), digest("2")}
