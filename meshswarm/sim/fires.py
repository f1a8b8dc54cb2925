"""Jobs' fires and runs, judged by the log and by what the runtimes are told to start.

Stands apart from what decides: it knows rows and instants; every schedule here is `* * * * *`.
"""

from attrs import define, field

from meshswarm.ids import JobId, ServiceId, TaskId
from meshswarm.model.service import RestartCondition
from meshswarm.model.task import Task
from meshswarm.sim.trace import Violation
from meshswarm.store.view import Key, Table, View

MINUTE_MS = 60_000


@define(eq=False)
class Fires:
    """All fires that began a run, and all tasks that were to run once."""

    begun: int = 0
    _seen: set[tuple[JobId, int]] = field(factory=set)
    _started: dict[tuple[ServiceId, int, int], TaskId] = field(factory=dict)

    def applied(self, before: View, view: View, changed: frozenset[Key]) -> None:
        """An entry was applied for the first time anywhere."""
        for table, key in sorted(changed, key=lambda one: (one[0].value, one[1])):
            run = view.runs.get(ServiceId(key)) if table is Table.RUNS else None
            if run is None or run.service_id in before.runs or run.scheduled_ms is None:
                continue
            assert run.job_id is not None, "a fire is a job's"
            fire = (run.job_id, run.scheduled_ms)
            if fire in self._seen:
                raise Violation(f"the fire {fire} happens a second time, at {view.index}")
            if run.scheduled_ms % MINUTE_MS:
                raise Violation(f"{fire} is no fire of the schedule")
            if run.scheduled_ms > view.clock_ms:
                raise Violation(f"the fire {fire} happens early, at {view.clock_ms}")
            self._seen.add(fire)
            self.begun += 1

    def starts(self, view: View, row: Task) -> None:
        """A runtime starts a task: of a run that must not be repeated there is no other."""
        if view.spec_of(row).task.restart.condition is not RestartCondition.NONE:
            return
        run = view.runs.get(row.service_id)
        if run is None or run.job_id is None or not row.slot:
            return
        place = (row.service_id, row.slot, row.revision)
        first = self._started.setdefault(place, row.id)
        if first != row.id:
            raise Violation(f"{row.name} repeats {first}, which was to run once")

    def unsettled(self, view: View) -> list[str]:
        """Runs that do not end, and fires that nobody decides, in a calm world."""
        found = [
            f"the fire of {job.spec.name} at {job.next_fire_ms} is not decided"
            for job in view.sorted_jobs()
            if job.next_fire_ms is not None and job.next_fire_ms < view.clock_ms - 1_000
        ]
        found += [
            f"{job.spec.name} does not know when it fires"
            for job in view.sorted_jobs()
            if job.next_fire_ms is None and not job.is_paused
        ]
        for job in view.sorted_jobs():
            over = [run for run in view.runs_of(job.id) if run.phase.is_over]
            if len(over) > job.spec.keep_complete + job.spec.keep_failed:
                found.append(f"{job.spec.name} keeps {len(over)} runs")
        return found
