"""Services in a job's mode: how often, how many at a time, and until when."""

import pytest

from meshswarm.errors import Invalid
from meshswarm.model.service import Mode
from tests.compose.loading import in_service, loaded, service


def _faults(body: str) -> tuple[str, ...]:
    with pytest.raises(Invalid) as error:
        loaded(in_service(body))
    return tuple(error.value.details)


def test_replicas_are_a_jobs_completions() -> None:
    spec = service("deploy: {mode: replicated-job, replicas: 5}")
    assert (Mode.REPLICATED_JOB, 5, 0, None) == (
        spec.mode,
        spec.replicas,
        spec.max_concurrent,
        spec.active_deadline_s,
    )


def test_what_compose_lacks_stands_under_x_meshswarm() -> None:
    spec = service(
        "deploy: {mode: replicated-job, replicas: 5}\n"
        "x-meshswarm: {max_concurrent: 2, active_deadline: 10m}"
    )
    assert (2, 600.0) == (spec.max_concurrent, spec.active_deadline_s)
    spec = service("deploy: {mode: global-job}\nx-meshswarm: {active_deadline: 1h}")
    assert (Mode.GLOBAL_JOB, 1, 3600.0) == (spec.mode, spec.replicas, spec.active_deadline_s)


def test_what_makes_no_sense_of_the_mode_is_a_fault() -> None:
    assert _faults("deploy: {mode: global-job, replicas: 2}\nx-meshswarm: {max_concurrent: 1}") == (
        "compose.yml:4: services.a.deploy.replicas: "
        "a global job has no replicas: it has one on every node",
        "compose.yml:5: services.a.x-meshswarm.max_concurrent: "
        "is for `deploy.mode: replicated-job`",
    )
    assert _faults("x-meshswarm: {active_deadline: 1m}") == (
        "compose.yml:4: services.a.x-meshswarm.active_deadline: "
        "is for `deploy.mode: replicated-job` or global-job",
    )
    assert _faults("deploy: {mode: replicated-job, update_config: {parallelism: 1}}") == (
        "compose.yml:4: services.a.deploy.update_config: "
        "a job is not rolled out: every change runs it again",
    )


def test_any_is_on_failure_to_a_job_and_a_warning_says_so() -> None:
    text = in_service("deploy: {mode: replicated-job, restart_policy: {condition: any}}")
    assert loaded(text).warnings == (
        "compose.yml:4: services.a.deploy.restart_policy.condition: "
        "to a job it means on-failure: it runs to its end",
    )
