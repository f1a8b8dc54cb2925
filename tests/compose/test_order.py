"""`depends_on` as it is written, and the waits that could never end, refused with their lines."""

import pytest

from meshswarm.errors import Invalid
from meshswarm.model.dependency import Condition, Dependency
from meshswarm.model.service import RestartCondition
from tests.compose.loading import loaded

HEALTHY = "healthcheck: {test: [CMD, check]}"


def _file(**bodies: str) -> str:
    return "services:\n" + "".join(
        f"  {key}: {{image: x, {body}}}\n" for key, body in bodies.items()
    )


def _depends(text: str) -> dict[str, tuple[Dependency, ...]]:
    return {one.name: one.depends_on for one in loaded(text).spec.services}


def _faults(text: str) -> list[str]:
    with pytest.raises(Invalid) as error:
        loaded(text)
    return list(error.value.details)


def test_a_name_alone_waits_until_it_has_started() -> None:
    found = _depends(_file(web="depends_on: [db]", db=""))
    assert {"p_db": (), "p_web": (Dependency(service="p_db"),)} == found


def test_the_long_form_says_how_far_and_whether_it_matters() -> None:
    body = "depends_on: {db: {condition: service_healthy, restart: true, required: false}}"
    found = _depends(_file(web=body, db=HEALTHY))["p_web"]
    assert found == (
        Dependency(service="p_db", condition=Condition.HEALTHY, is_required=False, restarts=True),
    )


def test_what_is_not_there_is_a_fault_unless_it_is_not_required() -> None:
    assert _faults(_file(web="depends_on: [db]")) == [
        "compose.yml:2: services.web.depends_on[0]: there is no service `db` in this file"
    ]
    text = _file(web="depends_on: {db: {condition: service_started, required: false}}")
    assert {"p_web": ()} == _depends(text)
    assert loaded(text).warnings == (
        "compose.yml:2: services.web.depends_on.db: "
        "there is no service `db`, so it is not waited for",
    )


def test_circles_are_told_with_the_line_that_closes_them() -> None:
    text = _file(a="depends_on: [b]", b="depends_on: [c]", c="depends_on: [a]", d="depends_on: [d]")
    assert _faults(text) == [
        "compose.yml:4: services.c.depends_on[0]: services wait for each other: a -> b -> c -> a",
        "compose.yml:5: services.d.depends_on[0]: services wait for each other: d -> d",
    ]


def test_what_has_no_health_check_is_never_known_to_be_healthy() -> None:
    text = _file(
        web="depends_on: {db: {condition: service_healthy}}",
        db="command: [x], x-meshswarm: {runtime: process}",
    )
    assert _faults(text) == [
        "compose.yml:2: services.web.depends_on.db: "
        "`db` has no `healthcheck`: give it one, or wait for service_started"
    ]
    image_may_have_one = _file(web="depends_on: {db: {condition: service_healthy}}", db="")
    assert Condition.HEALTHY is _depends(image_may_have_one)["p_web"][0].condition


def test_what_is_waited_for_to_complete_is_not_restarted_then() -> None:
    wait = "depends_on: {init: {condition: service_completed_successfully}}"
    init, _ = loaded(_file(web=wait, init="")).spec.services
    assert RestartCondition.ON_FAILURE is init.task.restart.condition
    assert loaded(_file(web=wait, init="")).warnings == (
        "compose.yml:3: services.init: `web` waits for its completion, so it is restarted on "
        "failure only; `deploy.restart_policy.condition` says otherwise",
    )
    text = _file(web=wait, init="deploy: {restart_policy: {condition: any}}")
    assert _faults(text) == [
        "compose.yml:2: services.web.depends_on.init: `init` is restarted whenever it completes: "
        "write `on-failure` or `none` as its `deploy.restart_policy.condition`, or "
        "`mode: replicated-job`"
    ]
    assert () == loaded(_file(web=wait, init="deploy: {mode: replicated-job}")).warnings


def test_other_mistakes_are_told() -> None:
    text = _file(web="depends_on: {db: {condition: started}}", db="depends_on: [web, web]")
    assert _faults(text) == [
        "compose.yml:2: services.web.depends_on.db: services wait for each other: db -> web -> db",
        "compose.yml:2: services.web.depends_on.db.condition: must be `service_started`, "
        "`service_healthy` or `service_completed_successfully`, not `started`; "
        "did you mean `service_started`?",
        "compose.yml:3: services.db.depends_on[1]: names `web` a second time",
    ]
