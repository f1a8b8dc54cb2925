"""`jobs`: what triggers them, and what becomes of their runs."""

from attrs import evolve, frozen

from meshswarm import cron
from meshswarm.compose.cursor import Cursor, Section
from meshswarm.compose.report import Unfit
from meshswarm.compose.shapes import applied, section, text
from meshswarm.model.job import Concurrency, JobSpec, MissedFires, Schedule
from meshswarm.model.service import RestartCondition, ServiceSpec


@frozen(kw_only=True)
class Entry:
    """One entry of `schedule`, and where it stands."""

    place: Cursor
    schedule: Schedule
    has_concurrency: bool


def schedules(cursor: Cursor) -> tuple[Entry, ...]:
    """A list of one entry: a cron expression, or `{cron, timezone, concurrency, missed_fires}`."""
    if cursor.is_text:
        raise Unfit(f'must be a list: write ["{text(cursor):.80}"]')
    items = cursor.items()
    if len(items) > 1:
        items[1].fault("a job has one schedule; make another job of the second one")
    return tuple(entry for item in items if (entry := applied(_entry, item)) is not None)


def _entry(cursor: Cursor) -> Entry | None:
    if cursor.is_text:
        return _checked(cursor, Schedule(cron=text(cursor)), has_concurrency=False)
    long = section(cursor)
    if long is None or "cron" not in long.values:
        if long is not None and "cron" not in long.places:
            cursor.fault("needs a `cron`")
        return None
    schedule = Schedule(
        cron=long.get("cron"),
        timezone=long.get("timezone", "UTC"),
        concurrency=long.get("concurrency", Concurrency.FORBID),
        missed_fires=long.get("missed_fires", MissedFires.ONE),
    )
    return _checked(long.at("cron"), schedule, has_concurrency="concurrency" in long.places)


def _checked(place: Cursor, schedule: Schedule, *, has_concurrency: bool) -> Entry | None:
    try:
        cron.check(schedule.cron, schedule.timezone)
    except cron.BadSchedule as error:
        place.fault(str(error))
        return None
    return Entry(place=place, schedule=schedule, has_concurrency=has_concurrency)


def job_spec(job: Section, service: ServiceSpec) -> JobSpec:
    """The job whose runs are such services."""
    own: Section | None = job.get("x-meshswarm")
    triggers: Section | None = job.get("triggers")
    if triggers is None and not job.is_wrong("triggers"):
        job.cursor.fault("needs `triggers`: {manual: true} or {schedule: [...]} says what runs it")
    is_manual: bool = triggers.get("manual", True) if triggers else True
    entries: tuple[Entry, ...] = triggers.get("schedule", ()) if triggers else ()
    if triggers is not None:
        _check_triggers(triggers, is_manual)
    history: Section | None = own.get("history") if own else None
    defaults = JobSpec(name=service.name, service=service)
    return JobSpec(
        name=service.name,
        stack=service.stack,
        service=_once(own, service),
        schedule=_schedule(entries, own),
        is_manual=is_manual,
        keep_complete=history.get("complete", defaults.keep_complete)
        if history
        else defaults.keep_complete,
        keep_failed=history.get("failed", defaults.keep_failed)
        if history
        else defaults.keep_failed,
    )


def _check_triggers(triggers: Section, is_manual: bool) -> None:
    has_manual, has_schedule = "manual" in triggers.places, "schedule" in triggers.places
    if not has_manual and not has_schedule:
        triggers.cursor.fault("needs `manual` or `schedule`")
    if has_manual and is_manual and has_schedule and not triggers.is_wrong("manual"):
        triggers.at("manual").fault(
            "`manual: true` does not go with `schedule`: leave it out, it is the default"
        )
    if not is_manual and not has_schedule:
        triggers.at("manual").warn("nothing runs it: it has no schedule, and no hand may")


def _schedule(entries: tuple[Entry, ...], own: Section | None) -> Schedule | None:
    """The schedule with what `x-meshswarm` adds; a fault for what would add to none."""
    if not entries:
        for key in ("concurrency", "starting_deadline"):
            if own and key in own.places:
                own.at(key).fault("is for a job with a `schedule`")
        return None
    entry = entries[0]
    if own is None:
        return entry.schedule
    if "concurrency" in own.places and entry.has_concurrency:
        own.at("concurrency").fault("say either this or `triggers.schedule[0].concurrency`")
    return evolve(
        entry.schedule,
        concurrency=own.get("concurrency", entry.schedule.concurrency),
        starting_deadline_s=own.get("starting_deadline"),
    )


def _once(own: Section | None, service: ServiceSpec) -> ServiceSpec:
    """The service as a run: it ends, and is tried again only where that is asked for."""
    deploy: Section | None = own.get("deploy") if own else None
    if deploy is not None and "mode" in deploy.places and not service.mode.is_job:
        deploy.at("mode").fault("a job's runs have an end: write replicated-job or global-job")
    policy: Section | None = deploy.get("restart_policy") if deploy else None
    if policy is not None and "condition" in policy.places:
        return service
    once = evolve(service.task.restart, condition=RestartCondition.NONE)
    return evolve(service, task=evolve(service.task, restart=once))
