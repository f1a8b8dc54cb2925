"""When to check health and what a result means: values in, values out."""

from meshswarm.agent import probes
from meshswarm.model.service import HealthCheck, TaskSpec
from meshswarm.model.task import Health

CHECK = HealthCheck(test=("CMD", "ok"), interval_s=10.0, retries=3)
STARTING = HealthCheck(
    test=("CMD-SHELL", "ok"), interval_s=10.0, retries=2, start_period_s=30.0, start_interval_s=1.0
)


def checked(check: HealthCheck, *codes: int) -> probes.Probes:
    """The state after checks with these exit codes, each as soon as it is due."""
    state = probes.first(0.0)
    for code in codes:
        now_s = probes.due_s(check, state)
        state = probes.after_check(check, state, code=code, output="", now_s=now_s)
    return state


def test_the_first_check_comes_one_interval_after_the_start() -> None:
    assert 10.0 == probes.due_s(CHECK, probes.first(0.0))
    assert 1.0 == probes.due_s(STARTING, probes.first(0.0))


def test_one_success_is_healthy_some_failures_in_a_row_are_not() -> None:
    assert Health.STARTING is checked(CHECK, 1, 1).health
    assert Health.UNHEALTHY is checked(CHECK, 1, 1, 1).health
    assert Health.HEALTHY is checked(CHECK, 1, 1, 0).health
    assert Health.HEALTHY is checked(CHECK, 0, 1, 1, 0, 1, 1).health
    assert Health.UNHEALTHY is checked(CHECK, 0, 1, 1, 1).health


def test_failures_of_the_start_period_do_not_count() -> None:
    state = checked(STARTING, *[1] * 29)
    assert (Health.STARTING, 0, 29.0) == (state.health, state.failures, state.latest_s)
    assert Health.UNHEALTHY is checked(STARTING, *[1] * 31).health


def test_a_success_ends_the_start_period() -> None:
    state = checked(STARTING, 0)
    assert 11.0 == probes.due_s(STARTING, state)
    assert Health.UNHEALTHY is checked(STARTING, 0, 1, 1).health


def test_a_failed_check_says_why_in_few_words() -> None:
    state = probes.after_check(CHECK, probes.first(0), code=2, output=" no \n answer", now_s=1.0)
    assert "no answer" == state.message
    state = probes.after_check(CHECK, probes.first(0), code=2, output="", now_s=1.0)
    assert "exit code 2" == state.message
    state = probes.after_check(CHECK, probes.first(0), code=2, output="x" * 900, now_s=1.0)
    assert probes.MAX_OUTPUT == len(state.message)


def test_what_is_executed() -> None:
    assert ("ok",) == probes.command_of(CHECK)
    assert ("/bin/sh", "-c", "ok") == probes.command_of(STARTING)


def test_a_spec_may_have_no_check() -> None:
    assert probes.check_of(TaskSpec()) is None
    assert probes.check_of(TaskSpec(healthcheck=HealthCheck(test=("NONE",)))) is None
    assert probes.check_of(TaskSpec(healthcheck=CHECK, healthcheck_disabled=True)) is None
    assert CHECK is probes.check_of(TaskSpec(healthcheck=CHECK))
