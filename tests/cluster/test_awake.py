"""The clock by which managers measure silence."""

from hypothesis import given
from hypothesis import strategies as st

from meshswarm.cluster.awake import LATE_S, TICK_S, AwakeClock
from meshswarm.cluster.heard import Heard
from meshswarm.ids import NodeId


class Wall:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_goes_like_any_other_while_it_is_awake() -> None:
    wall = Wall()
    clock = AwakeClock(wall)
    began = clock.now()
    for _ in range(50):
        wall.now += TICK_S + LATE_S / 2
        clock.ticked()
    assert abs(clock.now() - began - (wall.now - 100.0)) < 1e-6


def test_after_ten_seconds_in_which_nothing_ran_nobody_was_silent_for_ten_seconds() -> None:
    wall = Wall()
    clock = AwakeClock(wall)
    heard = Heard(NodeId("me"), clock.now())
    heard.note(NodeId("n1"), clock.now())
    wall.now += 10.0  # stopped; and what is asked first comes before the next tick
    assert heard.liveness(clock.now()).silent_ms[NodeId("n1")] <= 1_000 * (TICK_S + LATE_S)
    clock.ticked()
    assert heard.liveness(clock.now()).silent_ms[NodeId("n1")] <= 1_000 * (TICK_S + LATE_S)
    for _ in range(50):  # and now it does not speak
        wall.now += TICK_S
        clock.ticked()
    assert heard.liveness(clock.now()).silent_ms[NodeId("n1")] >= 5_000


@given(st.lists(st.tuples(st.floats(0.0, 30.0), st.booleans())))
def test_it_never_goes_back_and_is_never_faster(steps: list[tuple[float, bool]]) -> None:
    wall = Wall()
    clock = AwakeClock(wall)
    before, wall_before = clock.now(), wall.now
    for step, ticks in steps:
        wall.now += step
        if ticks:
            clock.ticked()
        assert -1e-6 <= clock.now() - before <= wall.now - wall_before + 1e-6
        before, wall_before = clock.now(), wall.now
