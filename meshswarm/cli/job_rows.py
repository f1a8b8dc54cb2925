"""What `meshswarm job` lists: a view becomes rows. Pure; the keys of rows are the JSON contract.

`job ls`: name, stack, trigger, state, paused, last_run, last_exit_code, next_fire. `job history`:
name, number, phase, exit_code, trigger, scheduled, started_at, ended_at, message. Both have more
keys; none is ever renamed or removed.
"""

from meshswarm.cli.rows import instant, plain, run_row
from meshswarm.cli.show import Column, Listing, Row
from meshswarm.cli.talk import age
from meshswarm.model.job import Job, Run
from meshswarm.store.view import View


def jobs(view: View, now_ms: int) -> Listing:
    """The jobs, by name."""
    return Listing(
        columns=(
            Column("NAME", "name"),
            Column("TRIGGER", "trigger"),
            Column("TIMEZONE", "timezone", is_wide=True),
            Column("STATE", "state"),
            Column("PAUSED", "paused"),
            Column("LAST RUN", lambda row: _last(row, now_ms)),
            Column("EXIT", "last_exit_code"),
            Column("NEXT FIRE", lambda row: _ahead(row["next_fire_ms"], now_ms)),
            Column("SKIPPED", "skipped", is_wide=True),
            Column("LAST SKIP", "skip_message", is_wide=True),
            Column("ID", "id", is_wide=True),
        ),
        rows=[job_row(view, job) for job in view.sorted_jobs()],
    )


def job_row(view: View, job: Job) -> Row:
    """One job, with its last run."""
    schedule, runs = job.spec.schedule, view.runs_of(job.id)
    last = runs[-1] if runs else None
    under_way = sum(not run.phase.is_over for run in runs)
    return {
        "name": job.spec.name,
        "stack": job.spec.stack,
        "trigger": schedule.cron if schedule else "manual",
        "timezone": schedule.timezone if schedule else None,
        "concurrency": schedule.concurrency.value if schedule else None,
        "missed_fires": schedule.missed_fires.value if schedule else None,
        "manual": job.spec.is_manual,
        "state": "running" if under_way else "idle",
        "running": under_way,
        "paused": job.is_paused,
        "last_run": last.number if last else None,
        "last_phase": last.phase.value if last else None,
        "last_exit_code": exit_code(view, last) if last else None,
        "last_ms": (last.ended_at_ms or last.started_at_ms) if last else None,
        "next_fire_ms": None if job.is_paused else job.next_fire_ms,
        "next_fire": None if job.is_paused else instant(job.next_fire_ms or 0),
        "queued": instant(job.queued_ms or 0),
        "skipped": job.skipped,
        "skip_message": job.skip_message,
        "id": job.id,
        "created_at": instant(job.created_at_ms),
        "updated_at": instant(job.updated_at_ms),
    }


def history(view: View, job: Job, now_ms: int) -> Listing:
    """The job's runs that are kept, the newest first."""
    return Listing(
        columns=(
            Column("RUN", "number"),
            Column("STATE", "phase"),
            Column("EXIT", "exit_code"),
            Column("TRIGGER", "trigger"),
            Column("SCHEDULED", "scheduled"),
            Column("STARTED", lambda row: _ago(row["started_ms"], now_ms)),
            Column("TOOK", _took),
            Column("SERVICE", "name", is_wide=True),
            Column("COMPLETED", "completed", is_wide=True),
            Column("FAILED", "failed", is_wide=True),
            Column("MESSAGE", "message"),
        ),
        rows=[history_row(view, run) for run in reversed(view.runs_of(job.id))],
    )


def history_row(view: View, run: Run) -> Row:
    """One run of a job."""
    service = view.services.get(run.service_id)
    return {
        "name": service.spec.name if service else run.service_id,
        "number": run.number,
        "trigger": run.trigger.value,
        "scheduled": instant(run.scheduled_ms or 0),
        "exit_code": exit_code(view, run),
        "started_ms": run.started_at_ms,
        "ended_ms": run.ended_at_ms,
        **run_row(run),
    }


def document(view: View, job: Job, now_ms: int) -> Row:
    """All that is known of a job."""
    runs = [dict(history_row(view, run)) for run in reversed(view.runs_of(job.id))]
    return {**job_row(view, job), "spec": plain(job.spec), "runs": runs}


def exit_code(view: View, run: Run) -> int | None:
    """What the run's last task to end said; of several the one that failed."""
    ended = [t for t in view.tasks_of(run.service_id) if t.status.exit_code is not None]
    ended.sort(key=lambda task: (bool(task.status.exit_code), task.status.since_ms))
    return ended[-1].status.exit_code if ended else None


def _last(row: Row, now_ms: int) -> str:
    phase, at_ms = row["last_phase"], row["last_ms"]
    return "-" if phase is None else f"{phase} ({_ago(at_ms, now_ms)})"


def _ago(at_ms: object, now_ms: int) -> str:
    return f"{age(at_ms, now_ms)} ago" if isinstance(at_ms, int) else "-"


def _ahead(at_ms: object, now_ms: int) -> str:
    return f"in {age(now_ms, max(at_ms, now_ms))}" if isinstance(at_ms, int) else "-"


def _took(row: Row) -> str:
    started_ms, ended_ms = row["started_ms"], row["ended_ms"]
    if isinstance(started_ms, int) and isinstance(ended_ms, int):
        return f"{max(0, ended_ms - started_ms) / 1_000:.1f} s"
    return "-"
