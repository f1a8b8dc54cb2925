"""When to probe, what a result means, what all of a task's probes say: values in, values out."""

import pytest
from attrs import evolve

from meshswarm.agent import plan, probes, statuses
from meshswarm.agent.card import Card, Probed, Said, Stop, Wait
from meshswarm.agent.probes import Checked
from meshswarm.errors import Unavailable
from meshswarm.ids import TaskId
from meshswarm.model.probe import CommandCheck, Probe, ProbeKind, Probes, TcpCheck
from meshswarm.model.service import HealthCheck, TaskSpec
from meshswarm.model.task import Health, Reason, TaskState
from tests.agent.cards import assignment, full, spec
from tests.agent.toy import Toy

T1 = TaskId("t1")

CHECK = HealthCheck(test=("CMD", "ok"), interval_s=10.0, retries=3)
STARTING = HealthCheck(
    test=("CMD-SHELL", "ok"), interval_s=10.0, retries=2, start_period_s=30.0, start_interval_s=1.0
)
TCP = Probe(check=TcpCheck(port=80), interval_s=10.0, success_threshold=2, initial_delay_s=4.0)


def checked(check: HealthCheck | Probe, *codes: int) -> Checked:
    """The state after checks that ended so (0 is well), each as soon as it was due."""
    probe = check if isinstance(check, Probe) else probes.probe_of(check)
    state = probes.first(0.0)
    for code in codes:
        now_s = probes.due_s(probe, state)
        state = probes.after_check(probe, state, is_well=code == 0, output="", now_s=now_s)
    return state


def test_the_first_health_check_comes_one_interval_after_the_start() -> None:
    assert 10.0 == probes.due_s(probes.probe_of(CHECK), probes.first(0.0))
    assert 1.0 == probes.due_s(probes.probe_of(STARTING), probes.first(0.0))


def test_the_first_probe_comes_after_its_delay_and_the_next_ones_after_intervals() -> None:
    assert 4.0 == probes.due_s(TCP, probes.first(0.0))
    assert 14.0 == probes.due_s(TCP, checked(TCP, 0))


def test_one_success_is_healthy_some_failures_in_a_row_are_not() -> None:
    assert Health.STARTING is checked(CHECK, 1, 1).health
    assert Health.UNHEALTHY is checked(CHECK, 1, 1, 1).health
    assert Health.HEALTHY is checked(CHECK, 1, 1, 0).health
    assert Health.HEALTHY is checked(CHECK, 0, 1, 1, 0, 1, 1).health
    assert Health.UNHEALTHY is checked(CHECK, 0, 1, 1, 1).health


def test_it_takes_as_many_successes_in_a_row_as_it_says() -> None:
    assert Health.STARTING is checked(TCP, 0).health
    assert Health.STARTING is checked(TCP, 0, 1, 0).health
    assert Health.HEALTHY is checked(TCP, 0, 1, 0, 0).health
    assert Health.UNHEALTHY is checked(TCP, 0, 0, 1, 1, 1, 0).health
    assert Health.HEALTHY is checked(TCP, 0, 0, 1, 1, 1, 0, 0).health


def test_complaint_43_failures_of_the_start_period_do_not_count() -> None:
    state = checked(STARTING, *[1] * 29)
    assert (Health.STARTING, 0, 29.0) == (state.health, state.failures, state.latest_s)
    assert Health.UNHEALTHY is checked(STARTING, *[1] * 31).health


def test_a_success_ends_the_start_period() -> None:
    state = checked(STARTING, 0)
    assert 11.0 == probes.due_s(probes.probe_of(STARTING), state)
    assert Health.UNHEALTHY is checked(STARTING, 0, 1, 1).health


def test_a_failed_check_says_why_in_few_words() -> None:
    def said(output: str) -> str:
        first = probes.first(0.0)
        return probes.after_check(TCP, first, is_well=False, output=output, now_s=1.0).message

    assert "no answer" == said(" no \n answer")
    assert probes.MAX_OUTPUT == len(said("x" * 900))


def test_what_is_executed() -> None:
    assert CommandCheck(argv=("ok",)) == probes.probe_of(CHECK).check
    assert CommandCheck(argv=("/bin/sh", "-c", "ok")) == probes.probe_of(STARTING).check


def test_a_spec_may_have_no_check() -> None:
    assert probes.check_of(TaskSpec()) is None
    assert probes.check_of(TaskSpec(healthcheck=HealthCheck(test=("NONE",)))) is None
    assert probes.check_of(TaskSpec(healthcheck=CHECK, healthcheck_disabled=True)) is None
    assert CHECK is probes.check_of(TaskSpec(healthcheck=CHECK))


# --- all of a task's ----------------------------------------------------------------------------

ALL = Probes(startup=TCP, readiness=TCP, liveness=TCP)
WELL, BAD, NEW = (
    Said(health=Health.HEALTHY),
    Said(health=Health.UNHEALTHY, message="its probe failed"),
    Said(health=Health.STARTING),
)


def _running(probed: Probed | None, own: Health = Health.NONE) -> tuple[Toy, Card]:
    """A running task with all three probes, of which this is known."""
    toy = Toy()
    toy.tell(full(assignment(runs=spec(probes=ALL))))
    toy.settle()
    card = toy.cards[T1]
    assert card.held is not None
    toy.cards[T1] = evolve(card, held=evolve(card.held, health=own), probed=probed)
    return toy, toy.cards[T1]


@pytest.mark.parametrize(
    ("startup", "readiness", "liveness", "own", "expected"),
    [
        (NEW, NEW, NEW, Health.NONE, Health.STARTING),
        (NEW, NEW, BAD, Health.UNHEALTHY, Health.STARTING),  # the startup probe gates all others
        (BAD, NEW, NEW, Health.NONE, Health.UNHEALTHY),
        (WELL, NEW, WELL, Health.NONE, Health.STARTING),
        (WELL, WELL, WELL, Health.NONE, Health.HEALTHY),
        (WELL, WELL, WELL, Health.STARTING, Health.STARTING),
        (WELL, WELL, WELL, Health.UNHEALTHY, Health.UNHEALTHY),
        (WELL, BAD, WELL, Health.HEALTHY, Health.NOT_READY),
        (WELL, BAD, NEW, Health.HEALTHY, Health.NOT_READY),
        (WELL, BAD, BAD, Health.HEALTHY, Health.UNHEALTHY),
        (Said(), WELL, Said(), Health.NONE, Health.HEALTHY),
    ],
)
def test_what_they_say_together(
    startup: Said, readiness: Said, liveness: Said, own: Health, expected: Health
) -> None:
    _, card = _running(Probed(startup=startup, readiness=readiness, liveness=liveness), own)
    assert card.held is not None
    assert expected is statuses.verdict(card, card.held)[0]


def test_complaint_43_what_is_not_ready_says_so_and_runs_on() -> None:
    toy, _ = _running(Probed(startup=WELL, readiness=BAD, liveness=WELL))
    toy.settle()
    status = toy.status()
    assert (TaskState.RUNNING, Health.NOT_READY) == (status.state, status.health)
    assert (Reason.NOT_READY, "its probe failed") == (status.reason, status.message)
    assert Wait() == plan.next_step(toy.cards[T1], toy.cards, toy.now_ms)
    toy.cards[T1] = evolve(toy.cards[T1], probed=Probed(startup=WELL, readiness=WELL))
    toy.settle()
    assert (Health.HEALTHY, Reason.NONE, "") == (
        toy.status().health,
        toy.status().reason,
        toy.status().message,
    )


def test_what_does_not_live_is_stopped_and_failed() -> None:
    toy, _ = _running(Probed(startup=WELL, readiness=BAD, liveness=BAD))
    toy.step(T1)
    assert Stop(kill=False) == plan.next_step(toy.cards[T1], toy.cards, toy.now_ms)
    toy.settle()
    status = toy.status()
    assert (TaskState.FAILED, Reason.UNHEALTHY) == (status.state, status.reason)
    assert "its probe failed" == status.message


def test_only_a_change_of_health_is_news() -> None:
    probed = Probed(readiness=WELL)
    bad = Checked(started_s=0.0, health=Health.UNHEALTHY, message="refused")
    fallen = probes.noted(probed, ProbeKind.READINESS, bad)
    said = Said(health=Health.UNHEALTHY, message="its readiness probe failed: refused")
    assert Probed(readiness=said) == fallen
    assert fallen is probes.noted(fallen, ProbeKind.READINESS, evolve(bad, message="late"))


def test_a_restarted_agent_goes_on_from_what_it_said_last() -> None:
    _, card = _running(None)
    for health, expected in (
        (Health.STARTING, Probed(startup=NEW, readiness=NEW, liveness=NEW)),
        (Health.HEALTHY, Probed(startup=WELL, readiness=WELL, liveness=WELL)),
        (Health.NOT_READY, Probed(startup=WELL, readiness=BAD, liveness=WELL)),
    ):
        message = BAD.message if health is Health.NOT_READY else ""
        found = evolve(card, status=evolve(card.status, health=health, message=message))
        assert expected == probes.begun(ALL, found)
        # Until its probes have begun anew the task's health stays as it was said.
        assert found.held is not None
        assert (health, message) == statuses.verdict(found, found.held)


def test_only_what_runs_and_is_to_go_on_is_probed() -> None:
    toy, card = _running(None)
    assert ALL == probes.to_probe(card)
    assert not probes.to_probe(evolve(card, held=None))
    assert not probes.to_probe(evolve(card, assignment=None))
    toy.now_ms += 1
    stopping = plan.after(card, Stop(kill=False), None, toy.now_ms)
    assert not probes.to_probe(stopping)


def test_how_soon_a_task_can_be_well() -> None:
    assert 0.0 == probes.well_after_s(spec())
    assert 10.0 == probes.well_after_s(spec(healthcheck=CHECK))
    assert 28.0 == probes.well_after_s(spec(healthcheck=CHECK, probes=ALL))


def test_where_a_port_is_reached() -> None:
    _, card = _running(None)
    assert card.held is not None
    held = evolve(card.held, published=("0.0.0.0:8080->80/tcp", "10.0.0.1:99->90/tcp"))
    assert ("127.0.0.1", 8080) == probes.address_of(held, 80)
    assert ("10.0.0.1", 99) == probes.address_of(held, 90)
    assert ("172.17.0.2", 70) == probes.address_of(evolve(held, address="172.17.0.2"), 70)
    with pytest.raises(Unavailable, match="port 70 is not published"):
        probes.address_of(evolve(held, address=""), 70)
