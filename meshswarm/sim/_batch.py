"""Many seeds, in this process or in several, which the simulator itself knows nothing of; one that
never ends is told with where it was."""

import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from itertools import islice
from types import FrameType

from meshswarm.sim.run import Result

Play = Callable[[int], Result]
"""Runs one seed; can be sent to another process."""

Played = tuple[Result, float]
"""What came of a seed, and the seconds of processor time that it took."""

AHEAD = 2
"""Seeds handed out to each process: it finds the next one waiting."""

ENDLESS_S = 300.0
"""A run takes a second, half a minute on a busy machine; one that takes longer would never end."""


class Endless(BaseException):
    """The run takes too long; nothing in a simulated node may catch that."""


def play_all(
    play: Play, seeds: Iterable[int], jobs: int, endless_s: float = ENDLESS_S
) -> Iterator[Played]:
    """The results as they come; seeds are asked for only when there is somebody to run them."""
    timed = partial(_timed, play, endless_s)
    if jobs == 1:
        return map(timed, seeds)
    return _in_processes(timed, iter(seeds), jobs)


def _in_processes(
    timed: Callable[[int], Played], seeds: Iterator[int], jobs: int
) -> Iterator[Played]:
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, fork) as pool:
        running: set[Future[Played]] = set()
        try:
            while True:
                free = AHEAD * jobs - len(running)
                running |= {pool.submit(timed, seed) for seed in islice(seeds, free)}
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


def _timed(play: Play, endless_s: float, seed: int) -> Played:
    began = time.process_time()
    try:
        with _at_most(endless_s):
            result = play(seed)
    except Endless as endless:
        where = "".join(traceback.format_tb(endless.__traceback__))
        violation = f"the run did not end within {endless_s:g} s; it was at\n{where}"
        result = Result(
            seed=seed,
            world="endless",
            violation=violation,
            digest="",
            simulated_ms=0,
            whole_after_ms=0,
            counts={},
        )
    return result, time.process_time() - began


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `Endless` where the main thread is after so many seconds, be it at work or waiting."""

    def ring(_signum: int, _frame: FrameType | None) -> None:
        raise Endless

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
