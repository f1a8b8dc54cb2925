"""Services in a job's mode: how often, how many at a time, and until when."""

import textwrap

import pytest

from meshswarm.errors import Invalid
from meshswarm.model.job import Concurrency, JobSpec, MissedFires, Schedule
from meshswarm.model.service import Mode, RestartCondition
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


# --- the section `jobs` -------------------------------------------------------------------------


def _job(body: str) -> JobSpec:
    text = "jobs:\n  j:\n    image: x\n" + textwrap.indent(body, "    ") + "\n"
    (found,) = loaded(text).spec.jobs
    return found


def _job_faults(body: str) -> tuple[str, ...]:
    with pytest.raises(Invalid) as error:
        _job(body)
    return tuple(error.value.details)


def test_a_job_by_hand_runs_once_and_is_not_repeated() -> None:
    job = _job("triggers: {manual: true}\ncommand: [migrate]")
    assert ("p_j", "p", True, None) == (job.name, job.stack, job.is_manual, job.schedule)
    assert (3, 3) == (job.keep_complete, job.keep_failed)
    run = job.service
    assert (Mode.REPLICATED_JOB, 1, ("migrate",)) == (run.mode, run.replicas, run.task.command)
    assert RestartCondition.NONE is run.task.restart.condition


def test_a_schedule_is_short_or_long() -> None:
    short = _job('triggers: {schedule: ["*/10 * * * *"]}')
    assert Schedule(cron="*/10 * * * *") == short.schedule
    long = _job(
        "triggers:\n  manual: false\n  schedule:\n"
        '    - {cron: "0 3 * * 1-5", timezone: Europe/Paris, concurrency: queue,'
        " missed_fires: skip}"
    )
    assert not long.is_manual
    assert long.schedule == Schedule(
        cron="0 3 * * 1-5",
        timezone="Europe/Paris",
        concurrency=Concurrency.QUEUE,
        missed_fires=MissedFires.SKIP,
    )


def test_what_the_specification_lacks_of_jobs_stands_under_x_meshswarm() -> None:
    job = _job(
        'triggers: {schedule: ["0 * * * *"]}\n'
        "x-meshswarm:\n"
        "  concurrency: replace\n"
        "  starting_deadline: 5m\n"
        "  active_deadline: 1h\n"
        "  history: {complete: 1, failed: 0}\n"
        "  deploy:\n"
        "    mode: global-job\n"
        "    restart_policy: {condition: on-failure, max_attempts: 2}\n"
        "    placement: {constraints: [node.labels.disk == ssd]}\n"
    )
    assert job.schedule is not None
    assert (Concurrency.REPLACE, 300.0) == (
        job.schedule.concurrency,
        job.schedule.starting_deadline_s,
    )
    assert (1, 0) == (job.keep_complete, job.keep_failed)
    run = job.service
    assert (Mode.GLOBAL_JOB, 3600.0) == (run.mode, run.active_deadline_s)
    assert (RestartCondition.ON_FAILURE, 2) == (
        run.task.restart.condition,
        run.task.restart.max_attempts,
    )
    assert 1 == len(run.task.constraints)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (
            "command: [x]",
            "2: jobs.j: needs `triggers`: {manual: true} or {schedule: ...",
        ),
        ("triggers: {}", "4: jobs.j.triggers: needs `manual` or `schedule`"),
        (
            'triggers: {manual: true, schedule: ["* * * * *"]}',
            "4: jobs.j.triggers.manual: `manual: true` does not go with `schedule`: ...",
        ),
        (
            'triggers: {schedule: "* * * * *"}',
            '4: jobs.j.triggers.schedule: must be a list: write ["* * * * *"]',
        ),
        (
            'triggers: {schedule: ["* * * *"]}',
            "4: jobs.j.triggers.schedule[0]: has five fields: minute, hour, day of the month, ...",
        ),
        (
            'triggers: {schedule: ["61 * * * *"]}',
            "4: jobs.j.triggers.schedule[0]: bad minute in `61 * * * *`",
        ),
        (
            'triggers: {schedule: [{cron: "0 0 * * *", timezone: Mars/Base}]}',
            "4: jobs.j.triggers.schedule[0].cron: there is no time zone `Mars/Base`; ...",
        ),
        ("triggers: {schedule: [{}]}", "4: jobs.j.triggers.schedule[0]: needs a `cron`"),
        (
            'triggers: {schedule: ["0 0 * * *", "0 1 * * *"]}',
            "4: jobs.j.triggers.schedule[1]: a job has one schedule; ...",
        ),
        (
            'triggers: {schedule: [{cron: "0 0 * * *", concurrency: queue}]}\n'
            "x-meshswarm: {concurrency: allow}",
            "5: jobs.j.x-meshswarm.concurrency: say either this or ...",
        ),
        (
            "triggers: {manual: true}\nx-meshswarm: {starting_deadline: 5s}",
            "5: jobs.j.x-meshswarm.starting_deadline: is for a job with a `schedule`",
        ),
        (
            "triggers: {manual: true}\nx-meshswarm: {deploy: {mode: global}}",
            "5: jobs.j.x-meshswarm.deploy.mode: a job's runs have an end: ...",
        ),
        (
            "triggers: {manual: true}\ndeploy: {replicas: 2}",
            "5: jobs.j.deploy: not supported: a job has none in Compose; ...",
        ),
        (
            "triggers: {manual: true}\ncontainer_name: a",
            "5: jobs.j.container_name: not supported: it is for services, ...",
        ),
    ],
)
def test_mistakes_in_jobs_are_told_with_their_lines(body: str, fault: str) -> None:
    (told,) = _job_faults(body)
    assert told.startswith(f"compose.yml:{fault.removesuffix('...')}")


def test_jobs_wait_for_services_and_jobs_but_no_service_waits_for_a_job() -> None:
    text = """\
services:
  db: {image: x}
  web: {image: x, depends_on: [a]}
jobs:
  a: {image: x, triggers: {manual: true}, depends_on: [db, b]}
  b: {image: x, triggers: {manual: false, schedule: ["0 0 * * *"]}}
  c: {image: x, triggers: {manual: true}, depends_on: [c]}
  db: {image: x, triggers: {manual: true}}
"""
    with pytest.raises(Invalid) as error:
        loaded(text)
    assert list(error.value.details) == [
        "compose.yml:3: services.web.depends_on[0]: `a` is one of `jobs`, which nobody waits for; "
        "make it a service with `deploy.mode: replicated-job`",
        "compose.yml:5: jobs.a.depends_on[1]: `b` says `manual: false`, so nothing can run it",
        "compose.yml:7: jobs.c.depends_on[0]: services wait for each other: c -> c",
        "compose.yml:8: jobs.db: `db` is the name of a service as well; choose another",
    ]


def test_a_jobs_volumes_ports_and_probes_are_read_as_a_services() -> None:
    job = _job(
        "triggers: {manual: true}\n"
        "volumes: [./out:/out]\n"
        "environment: {A: 1}\n"
        "healthcheck: {test: [CMD, x]}\n"
        "depends_on: []\n"
    )
    assert ("/project/out", {"A": "1"}) == (
        job.service.task.mounts[0].source,
        job.service.task.environment,
    )
