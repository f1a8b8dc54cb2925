"""How much of the past is kept."""

from attrs import evolve

from meshswarm.control.resting import HISTORY
from meshswarm.model.service import RestartPolicy, Service
from meshswarm.model.task import DesiredState, TaskState
from meshswarm.store.commands import ForgetTask
from meshswarm.store.view import View
from tests.support.builders import node, service, task, view
from tests.support.deciding import decided, of_kind

N1 = node("n1")
WEB = service("web", replicas=2)


def _with_dead(of: Service, number: int) -> View:
    dead = [
        task(of, 1, N1, TaskState.FAILED, id=f"t{n}", created_at_ms=n + 1) for n in range(number)
    ]
    return view([N1], [of], [*dead, task(of, 1, N1), task(of, 2, N1)])


def _forgotten(before: View) -> list[str]:
    return [command.task_id for command in of_kind(decided(before), ForgetTask)]


def test_the_last_five_of_a_slot_are_kept() -> None:
    assert _forgotten(_with_dead(WEB, HISTORY)) == []
    assert _forgotten(_with_dead(WEB, HISTORY + 2)) == ["t0", "t1"]


def test_more_are_kept_where_attempts_are_counted() -> None:
    counted = evolve(
        WEB,
        spec=evolve(WEB.spec, task=evolve(WEB.spec.task, restart=RestartPolicy(max_attempts=7))),
    )
    assert _forgotten(_with_dead(counted, 10)) == ["t0", "t1"]


def test_what_was_to_be_removed_is_forgotten_when_it_has_stopped() -> None:
    gone = task(WEB, 3, N1, TaskState.SHUTDOWN, id="gone", desired=DesiredState.REMOVE)
    stops = task(WEB, 4, N1, id="stops", desired=DesiredState.REMOVE)
    before = view([N1], [WEB], [task(WEB, 1, N1), task(WEB, 2, N1), gone, stops])
    assert _forgotten(before) == ["gone"]
