"""`python3 -m meshswarm.sim` tells what happened, and how to see it again."""

import sys
import time
from functools import partial

import pytest
from attrs import evolve

from meshswarm.sim import __main__, _batch, run


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["sim", *arguments])
    return __main__.main()


def test_seeds_that_hold_end_with_the_speed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main(monkeypatch, "--seeds", "1..2", "--ms", "2000")
    assert "2 runs in" in capsys.readouterr().out


@pytest.mark.slow
def test_several_processes_run_the_same_seeds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def counts(jobs: str) -> str:
        assert 0 == main(monkeypatch, "--seeds", "1..6", "--ms", "2000", "--jobs", jobs)
        return capsys.readouterr().out.splitlines()[-1]

    assert counts("1") == counts("2")


def test_no_seed_begins_after_the_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    instants = iter(range(0, 100_000, 30))
    monkeypatch.setattr("time.monotonic", lambda: next(instants))
    assert 0 == main(monkeypatch, "--seeds", "1..1000", "--ms", "1000", "--at-most-s", "100")
    runs = int(capsys.readouterr().out.splitlines()[-2].split()[0])
    assert 0 < runs < 4


def test_a_violation_ends_with_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = run.run

    def broken(seed: int, **options: object) -> run.Result:
        return evolve(right(seed, safety_ms=1_000), violation="the moon fell")

    monkeypatch.setattr(run, "run", broken)
    assert 1 == main(monkeypatch, "--seeds", "7..9", "--ms", "1000", "--faults", "crash,storm")
    out = capsys.readouterr().out
    assert "BROKEN: the moon fell" in out
    repeat = "--seed 7 --ms 1000 --managers 3 --faults crash,storm --verbose"
    assert f"python3 tools/run.py sim {repeat}" in out


def _second_never_ends(pause_s: float, seed: int) -> run.Result:
    while seed == 2:
        time.sleep(pause_s)
    return run.run(seed, safety_ms=1_000)


@pytest.mark.parametrize("pause_s", [0.0, 60.0])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_never_ends_is_told_with_where_it_was(jobs: int, pause_s: float) -> None:
    play = partial(_second_never_ends, pause_s)
    played = _batch.play_all(play, [1, 2, 3], jobs, endless_s=3.0)
    results = {result.seed: result.violation for result, _ in played}
    assert (None, None) == (results[1], results[3])
    assert "the run did not end within 3 s" in str(results[2])
    assert "time.sleep(pause_s)" in str(results[2])


def test_verbose_tells_what_happens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main(monkeypatch, "--seed", "1", "--ms", "3000", "--verbose")
    assert "is Leader in term 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [("--seeds", "9..1"), ("--seeds", "x"), ("--managers", "0"), ("--faults", "luck")]
)
def test_what_cannot_be_run_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(monkeypatch, *arguments)
    assert 2 == refused.value.code
    assert arguments[0] in capsys.readouterr().err
