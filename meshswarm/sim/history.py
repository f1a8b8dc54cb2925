"""What users asked for and were told, against the log: nothing lost, nothing done twice.

The books are a model of services in a few lines, fed with the committed commands alone.
"""

from attrs import define, evolve, field

from meshswarm.ids import ClientId, Index, ServiceId, digest_id
from meshswarm.model.job import JobSpec
from meshswarm.model.service import ServiceSpec, TaskSpec
from meshswarm.sim.trace import Violation
from meshswarm.store.commands import (
    Command,
    PauseRollout,
    PutStack,
    RegisterNode,
    RemoveService,
    RemoveStack,
    RestartService,
    ResumeRollout,
    RollBackService,
    ScaleService,
    UpdateNode,
    decode_command,
)
from meshswarm.store.job_commands import CancelRun, PauseJob, RemoveJob, ResumeJob, RunJob
from meshswarm.store.log_entry import LogEntry, Request
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import Key, View

Name = tuple[ClientId, int]
"""A request's name."""


@define(eq=False)
class History:
    """All users' requests."""

    services: dict[str, tuple[ServiceId, ServiceSpec]] = field(factory=dict)
    """What should exist, by full name."""
    asked: dict[str, list[TaskSpec]] = field(factory=dict)
    """What each was ever asked to run."""
    stacks: set[str] = field(factory=set)
    jobs: dict[str, JobSpec] = field(factory=dict)
    newest_ack: Index = Index(0)
    """Everything up to here was acknowledged to somebody, or precedes what was."""
    acknowledged: int = 0
    _first: dict[Name, Outcome] = field(factory=dict)
    """What the first entry with this name did."""
    _sent_after: dict[Name, Index] = field(factory=dict)

    # --- what users see -----------------------------------------------------------------------

    def sends(self, request: Request) -> None:
        """A user sends a request for the first time."""
        self._sent_after[request.client, request.sequence] = self.newest_ack

    def acknowledges(self, request: Request, outcome: Outcome) -> None:
        """A user is told what became of it: it is in the log, after all told before it was sent."""
        name = (request.client, request.sequence)
        first = self._first.get(name)
        if first is None:
            raise Violation(f"{name} was acknowledged, but is not in the log")
        if first != outcome:
            raise Violation(f"{name} was told {outcome}, but the log says {first}")
        if outcome.index <= self._sent_after[name]:
            raise Violation(
                f"{name} was sent after {self._sent_after[name]} was acknowledged, "
                f"and took effect before it, at {outcome.index}"
            )
        self.newest_ack = max(self.newest_ack, outcome.index)
        self.acknowledged += 1

    def reads(self, asked_after: Index, view: View) -> None:
        """A user reads a view, asked for when `asked_after` was the newest acknowledged index."""
        if view.index < asked_after:
            raise Violation(f"a read at {view.index} misses what was acknowledged: {asked_after}")
        self.newest_ack = max(self.newest_ack, view.index)

    # --- what the log says --------------------------------------------------------------------

    def committed(
        self, index: Index, data: bytes, before: View, outcome: Outcome, changed: frozenset[Key]
    ) -> None:
        """An entry was applied for the first time anywhere."""
        entry = LogEntry.decoded(data)
        if entry.request is None:
            return
        name = (entry.request.client, entry.request.sequence)
        if name in self._first:
            if changed:
                raise Violation(f"{name} was carried out again at {index}")
            return
        self._first[name] = outcome
        expected = self._carry_out(decode_command(entry.command), before)
        if (outcome.refusal is None) != expected:
            raise Violation(f"{name} at {index}: expected {expected}, the store says {outcome}")

    def _carry_out(self, command: Command, before: View) -> bool:
        """Follow a user's command in the books; whether it can be carried out."""
        match command:
            case PutStack(spec=spec):
                self._drop(spec.name, keep={one.name for one in spec.services})
                for wanted in spec.services:
                    ours = min(before.nodes, default="")
                    made = ServiceId(digest_id("service", wanted.name, before.index + 1, ours))
                    self.services[wanted.name] = (
                        self.services.get(wanted.name, (made,))[0],
                        wanted,
                    )
                    self.asked.setdefault(wanted.name, []).append(wanted.task)
                self.stacks.add(spec.name)
                self._drop_jobs(spec.name)
                self.jobs |= {job.name: job for job in spec.jobs}
                return True
            case RemoveStack(name=name):
                if name not in self.stacks:
                    return False
                self.stacks.remove(name)
                self._drop_jobs(name)
                self._drop(name, keep=set())
                return True
            case ScaleService(service_id=service_id, replicas=replicas):
                found = self._named(service_id)
                if found is None or self.services[found][1].mode.is_global:
                    return False
                scaled = evolve(self.services[found][1], replicas=replicas)
                self.services[found] = (service_id, scaled)
                return True
            case RemoveService(service_id=service_id):
                return self._remove(self._named(service_id))
            case RegisterNode():
                return True
            case UpdateNode(node_id=node_id):
                return node_id in before.nodes
            case _:
                return self._carry_out_turn(command, before)

    def _carry_out_turn(self, command: Command, before: View) -> bool:
        """Follow what a user wants of a service's rollout."""
        match command:
            case RestartService(service_id=service_id):
                return self._restart(service_id, before)
            case PauseRollout(service_id=service_id) | ResumeRollout(service_id=service_id):
                last = before.rollouts.get(service_id)
                return last is not None and (last.phase.is_active or last.phase.is_paused)
            case RunJob(job_id=job_id) | PauseJob(job_id=job_id) | ResumeJob(job_id=job_id):
                return job_id in before.jobs
            case CancelRun(service_id=service_id):
                return service_id in before.runs
            case RemoveJob(job_id=job_id):
                job = before.jobs.get(job_id)
                return job is not None and self._remove_job(job.spec)
            case RollBackService(service_id=service_id):
                return self._go_back(service_id, before)
            case _:
                return False

    def _remove_job(self, spec: JobSpec) -> bool:
        del self.jobs[spec.name]
        self._forget_stack(spec.stack)
        return True

    def _drop_jobs(self, stack: str) -> None:
        self.jobs = {name: job for name, job in self.jobs.items() if job.stack != stack}

    def _drop(self, stack: str, keep: set[str]) -> None:
        gone = [n for n, (_, s) in self.services.items() if s.stack == stack and n not in keep]
        for name in gone:
            del self.services[name]

    def _remove(self, name: str | None) -> bool:
        if name is None:
            return False
        _, spec = self.services.pop(name)
        self._forget_stack(spec.stack)
        return True

    def _forget_stack(self, stack: str | None) -> None:
        """A stack goes with the last of its parts."""
        stacks = {other.stack for _, other in self.services.values()}
        stacks |= {job.stack for job in self.jobs.values()}
        if stack not in stacks:
            self.stacks.discard(stack or "")

    def _restart(self, service_id: ServiceId, before: View) -> bool:
        """A user has what there is restarted; after a rollout went back, what it went to."""
        name, last = self._named(service_id), before.rollouts.get(service_id)
        if name is None:
            return False
        task = before.services[service_id].spec.task
        if last is not None and last.phase.goes_back and task in self.asked[name]:
            self.services[name] = (service_id, evolve(self.services[name][1], task=task))
        return True

    def _go_back(self, service_id: ServiceId, before: View) -> bool:
        """A user wants what ran before the last rollout."""
        name, last = self._named(service_id), before.rollouts.get(service_id)
        if name is None or last is None or last.phase.goes_back:
            return False
        if before.services[service_id].spec.mode.is_job:
            return False
        if last.stable_revision == before.services[service_id].revision:
            return False
        task = before.revisions[service_id][last.stable_revision].task
        self.services[name] = (service_id, evolve(self.services[name][1], task=task))
        return True

    def _named(self, service_id: ServiceId) -> str | None:
        return next((name for name, (id_, _) in self.services.items() if id_ == service_id), None)

    def differs_from(self, view: View) -> list[str]:
        """In what the view is not as users asked."""
        found = [
            f"service {name} is not as it was asked for"
            for name, (_, spec) in sorted(self.services.items())
            if not self._is_as_asked(view, name, spec)
        ]
        found += [
            f"service {name} should be gone"
            for name in sorted(view.service_ids)
            if name not in self.services and not _is_run(view, name)
        ]
        if {job.spec.name: job.spec for job in view.jobs.values()} != self.jobs:
            found.append(f"the jobs are not as asked for: {sorted(self.jobs)}")
        if set(view.stacks) != self.stacks:
            found.append(f"the stacks are {sorted(view.stacks)}, not {sorted(self.stacks)}")
        return found

    def _is_as_asked(self, view: View, name: str, spec: ServiceSpec) -> bool:
        """Whether the service is as it was last asked for, or, after a failure, once was."""
        row = view.service_named(name)
        if row is None or evolve(row.spec, task=spec.task) != spec:
            return False
        last = view.rollouts.get(row.id)
        may_differ = last is not None and last.phase.goes_back
        return row.spec.task == spec.task or (may_differ and row.spec.task in self.asked[name])


def _is_run(view: View, name: str) -> bool:
    """Whether the service of that name is a job's run."""
    run = view.runs.get(view.service_ids[name])
    return run is not None and run.job_id is not None
