"""Why a job does not run, or did not do what it should: its schedule, its fires, its last run."""

from collections.abc import Iterator

from attrs import frozen

from meshswarm.control.jobs import active_runs
from meshswarm.control.spans import span
from meshswarm.control.why import WhyReport, why
from meshswarm.model.job import Concurrency, Job, Run, RunPhase
from meshswarm.store.view import View

MAX_NAMED = 3
"""Runs that a sentence names; the rest are counted."""


@frozen(kw_only=True)
class JobReport:
    """The state of a job in sentences, and that of its last run."""

    job: str
    summary: tuple[str, ...]
    run: WhyReport | None
    """None: it has not run, or what ran is forgotten."""


def why_job(view: View, job: Job, now_ms: int) -> JobReport:
    """What runs the job and when, what keeps it from that, and how its last run stands.

    The view needs the table of jobs besides those that `why` needs.
    """
    runs = view.runs_of(job.id)
    service = view.services.get(runs[-1].service_id) if runs else None
    return JobReport(
        job=job.spec.name,
        summary=(*_schedule(job, now_ms), *_fires(view, job), *_runs(job, runs, now_ms)),
        run=None if service is None else why(view, service, now_ms),
    )


def _schedule(job: Job, now_ms: int) -> Iterator[str]:
    """What begins its runs."""
    name, schedule = job.spec.name, job.spec.schedule
    by_hand = f"`meshswarm job run {name}` runs it"
    if schedule is None:
        yield f"job {name} has no schedule; {by_hand}"
        return
    said = f"job {name} fires at `{schedule.cron}` in {schedule.timezone}"
    if job.is_paused:
        yield f"{said}, but is paused; `meshswarm job resume {name}` lets it fire again"
    elif job.next_fire_ms is None:
        yield f"{said}; when that is next is not reckoned yet, or never"
    else:
        yield f"{said}, next in {span(job.next_fire_ms - now_ms)}"


def _fires(view: View, job: Job) -> Iterator[str]:
    """What became of fires that did not begin a run."""
    active = active_runs(view, job.id)
    if job.queued_ms is not None and active:
        ahead = ", ".join(str(run.number) for run in active[:MAX_NAMED])
        schedule = job.spec.schedule
        is_stopped = schedule is not None and schedule.concurrency is Concurrency.REPLACE
        what = "is stopped for it" if is_stopped else "is over"
        yield f"a fire waits until run {ahead} {what}"
    if job.skipped:
        were = "was" if job.skipped == 1 else "were"
        yield f"{job.skipped} of its fires {were} skipped, the last one because {job.skip_message}"


def _runs(job: Job, runs: list[Run], now_ms: int) -> Iterator[str]:
    """How its last run went, and which others are under way."""
    if not runs:
        kept = "no run of it is kept" if job.runs else "it has not run yet"
        yield kept
        return
    *earlier, last = runs
    beside = [str(run.number) for run in earlier if not run.phase.is_over]
    if beside:
        more = f" and {len(beside) - MAX_NAMED} more" if len(beside) > MAX_NAMED else ""
        yield f"run {', '.join(beside[:MAX_NAMED])}{more} is under way as well"
    since_ms = last.ended_at_ms if last.ended_at_ms is not None else last.started_at_ms
    passed = span(now_ms - since_ms)
    match last.phase:
        case RunPhase.RUNNING:
            yield f"run {last.number}, its last one, has been under way for {passed}"
        case RunPhase.COMPLETE:
            yield f"run {last.number}, its last one, was complete {passed} ago"
        case RunPhase.FAILED:
            yield f"run {last.number}, its last one, failed {passed} ago: {last.message}"
