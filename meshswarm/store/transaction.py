"""One entry's writes: keeps tables and indexes in step, and remembers which rows changed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import nsmallest
from itertools import repeat
from operator import attrgetter
from typing import TypeVar

import attrs
from attrs import evolve
from immutables import Map

from meshswarm.ids import Index, JobId, NodeId, ServiceId, TaskId, Term, Version
from meshswarm.making import maker
from meshswarm.model.file import KeptFile, Secret, SecretsKey, pin_key
from meshswarm.model.job import Job, Run
from meshswarm.model.node import Node
from meshswarm.model.rollout import Rollout
from meshswarm.model.service import Revision, Service
from meshswarm.model.stack import Stack
from meshswarm.model.task import Task
from meshswarm.store.changes import Changed, by_table
from meshswarm.store.config_table import Configs
from meshswarm.store.outcome import ClientSession
from meshswarm.store.view import Id, IdSet, Key, Table, View, revision_key

K = TypeVar("K")

MANY = 16
"""Configs written in one go of which no key each is made."""

_names = [attribute.name for attribute in attrs.fields(View)]
assert _names[:3] == ["index", "term", "clock_ms"], "where a view stands comes first"
_rest_of = attrgetter(*_names[3:])
_moved = maker(View)
_write = object.__setattr__


class Transaction:
    """A view being written at one log index and log time, which never goes back; `view` is current
    after every write.

    Every row written gets `version = view.index`. `replaying` writes rows as another view has
    them, versions included, and drops none but those that it is told to.

    `view` is this transaction's own copy, written in place (making a new one for each write costs
    more than all else that a small command does) and frozen like any other once all is written.
    """

    def __init__(
        self, view: View, index: Index, term: Term, clock_ms: int, *, replaying: bool = False
    ) -> None:
        clock_ms = max(clock_ms, view.clock_ms)
        self.view: View = _moved(index, term, clock_ms, *_rest_of(view))
        self._replaying = replaying
        self._undo: dict[str, object] = {}
        self._touched: list[Key] = []
        self._many: list[tuple[Table, frozenset[str]]] = []
        self._kept = 0

    def keep(self) -> None:
        """What was written since the last `keep` stands."""
        self._kept = len(self._touched)
        self._undo.clear()

    def undo(self) -> None:
        """Take back what was written since the last `keep`."""
        for name, value in self._undo.items():
            _write(self.view, name, value)
        del self._touched[self._kept :]
        self._undo.clear()

    @property
    def changed(self) -> Changed:
        """The rows that were written, or deleted."""
        return by_table(self._touched, self._many) if self._many else frozenset(self._touched)

    @property
    def touched(self) -> Sequence[Key]:
        """The rows that were written, in turn, as often as they were; but for many configs."""
        return self._touched

    def _set(self, **fields: object) -> None:
        for name, value in fields.items():
            self._set_one(name, value)

    def _set_one(self, name: str, value: object) -> None:
        if name not in self._undo:
            self._undo[name] = getattr(self.view, name)
        _write(self.view, name, value)

    def _version(self, present: Version) -> Version:
        return present if self._replaying else Version(self.view.index)

    def put_node(self, node: Node) -> None:
        """Write a node."""
        node = evolve(node, version=self._version(node.version))
        self._set(
            nodes=self.view.nodes.set(node.id, node),
            node_ids=self.view.node_ids.set(node.name, node.id),
        )
        self._touched.append((Table.NODES, node.id))

    def drop_node(self, node_id: NodeId) -> None:
        """Delete a node's row, if it is there."""
        node = self.view.nodes.get(node_id)
        if node is None:
            return
        self._set(
            nodes=self.view.nodes.delete(node_id),
            node_ids=self.view.node_ids.delete(node.name),
        )
        self._touched.append((Table.NODES, node_id))

    def put_service(self, service: Service) -> None:
        """Write a service."""
        service = evolve(service, version=self._version(service.version))
        by_stack = self.view.services_by_stack
        if service.spec.stack is not None:
            by_stack = _with(by_stack, service.spec.stack, service.id)
        before = self.view.services.get(service.id)
        self._set(
            dependents=self._depending(before, service),
            services=self.view.services.set(service.id, service),
            service_ids=self.view.service_ids.set(service.spec.name, service.id),
            services_by_stack=by_stack,
        )
        self._touched.append((Table.SERVICES, service.id))

    def drop_service(self, service: Service) -> None:
        """Delete a service with its rollout or run; its tasks and the revisions that they run stay
        until the tasks are gone."""
        by_stack = self.view.services_by_stack
        if service.spec.stack is not None:
            by_stack = _without(by_stack, service.spec.stack, service.id)
        self._set(
            dependents=self._depending(service, None),
            services=self.view.services.delete(service.id),
            service_ids=self.view.service_ids.delete(service.spec.name),
            services_by_stack=by_stack,
        )
        self._touched.append((Table.SERVICES, service.id))
        if not self._replaying:
            self.drop_rollout(service.id)
            self.drop_run(service.id)
            self.prune_revisions(service.id, keep=0)

    def _depending(
        self, before: Service | None, after: Service | None
    ) -> Map[str, IdSet[ServiceId]]:
        """Who depends on whom once a service's row is another one, or gone."""
        index = self.view.dependents
        old = {one.service for one in before.spec.depends_on} if before else set()
        new = {one.service for one in after.spec.depends_on} if after else set()
        if before is not None:
            for name in sorted(old - new):
                index = _without(index, name, before.id)
        if after is not None:
            for name in sorted(new - old):
                index = _with(index, name, after.id)
        return index

    def put_revision(self, revision: Revision) -> None:
        """Write a revision."""
        owner = revision.service_id
        numbered = self.view.revisions.get(owner, Map())
        self._unpin(numbered.get(revision.number))
        numbered = numbered.set(revision.number, revision)
        self._set(revisions=self.view.revisions.set(owner, numbered))
        self._pin(revision)
        self._touched.append(_revision_key(owner, revision.number))

    def drop_revision(self, service_id: ServiceId, number: int) -> None:
        """Delete a revision, if it is there."""
        numbered = self.view.revisions.get(service_id, Map())
        dropped = numbered.get(number)
        if dropped is None:
            return
        numbered = numbered.delete(number)
        revisions = self.view.revisions
        self._set(
            revisions=revisions.set(service_id, numbered)
            if numbered
            else revisions.delete(service_id),
        )
        self._touched.append(_revision_key(service_id, number))
        for key in self._unpin(dropped):
            if not self._replaying:
                self.drop_kept_file(key)

    def _pin(self, revision: Revision) -> None:
        """Note whose content the revision uses."""
        key = revision_key(revision.service_id, revision.number)
        for use in revision.task.files:
            name, pins = pin_key(use.kind, use.source), self.view.pins
            self._set(pins=pins.set(name, _with(pins.get(name, Map()), use.version, key)))

    def _unpin(self, revision: Revision | None) -> list[str]:
        """Forget that; the keys of contents that nobody uses any more."""
        if revision is None or not revision.task.files:
            return []
        key = revision_key(revision.service_id, revision.number)
        freed: list[str] = []
        for use in revision.task.files:
            name, pins = pin_key(use.kind, use.source), self.view.pins
            if key not in pins.get(name, Map()).get(use.version, Map()):
                continue  # the revision uses it twice
            versions = _without(pins[name], use.version, key)
            self._set(pins=pins.set(name, versions) if versions else pins.delete(name))
            if use.version not in versions:
                freed.append(f"{name}/{use.version}")
        return freed

    def prune_revisions(self, service_id: ServiceId, *, keep: int) -> None:
        """Delete the service's revisions that no task runs, except the last `keep`, the current one
        and those between which it is being rolled out."""
        numbered = self.view.revisions.get(service_id, Map())
        used = {task.revision for task in self.view.tasks_of(service_id)}
        if (service := self.view.services.get(service_id)) is not None:
            used.add(service.revision)
        if (rollout := self.view.rollouts.get(service_id)) is not None:
            used |= {rollout.revision, rollout.stable_revision}
        recent = sorted(numbered)[-keep:] if keep else []
        for number in sorted(set(numbered) - used - set(recent)):
            self.drop_revision(service_id, number)

    def put_stack(self, stack: Stack) -> None:
        """Write a stack."""
        stack = evolve(stack, version=self._version(stack.version))
        self._set(stacks=self.view.stacks.set(stack.name, stack))
        self._touched.append((Table.STACKS, stack.name))

    def drop_stack(self, name: str) -> None:
        """Delete a stack's row, if it is there."""
        if name not in self.view.stacks:
            return
        self._set(stacks=self.view.stacks.delete(name))
        self._touched.append((Table.STACKS, name))

    def put_configs(self, names: Collection[str], rows: Iterable[bytes]) -> None:
        """Write packed rows of these names, whose versions stay; many are kept with that."""
        self._set_one("configs", self.view.configs.updated(zip(names, rows, strict=True)))
        if len(names) < MANY:
            self._touched += zip(repeat(Table.CONFIGS), names)
        else:
            self._many.append((Table.CONFIGS, frozenset(names)))
            self.keep()

    def put_config(self, name: str, row: bytes) -> None:
        """Write a packed row; its version stays."""
        self._set_one("configs", Configs(self.view.configs.rows.set(name, row)))
        self._touched.append((Table.CONFIGS, name))

    def drop_config(self, name: str) -> None:
        """Delete a config's row, if it is there."""
        if name not in self.view.configs:
            return
        self._set(configs=self.view.configs.without(name))
        self._touched.append((Table.CONFIGS, name))

    def put_secret(self, secret: Secret) -> None:
        """Write a secret."""
        secret = evolve(secret, version=self._version(secret.version))
        self._set(secrets=self.view.secrets.set(secret.name, secret))
        self._touched.append((Table.SECRETS, secret.name))

    def drop_secret(self, name: str) -> None:
        """Delete a secret's row, if it is there."""
        if name not in self.view.secrets:
            return
        self._set(secrets=self.view.secrets.delete(name))
        self._touched.append((Table.SECRETS, name))

    def put_kept_file(self, kept: KeptFile) -> None:
        """Keep content that a row no longer has; its version is that row's."""
        self._set(kept_files=self.view.kept_files.set(kept.key, kept))
        self._touched.append((Table.KEPT_FILES, kept.key))

    def drop_kept_file(self, key: str) -> None:
        """Delete kept content, if it is there."""
        if key not in self.view.kept_files:
            return
        self._set(kept_files=self.view.kept_files.delete(key))
        self._touched.append((Table.KEPT_FILES, key))

    def put_secrets_key(self, row: SecretsKey) -> None:
        """Write the key of secrets."""
        row = evolve(row, version=self._version(row.version))
        self._set(secrets_keys=self.view.secrets_keys.set(row.id, row))
        self._touched.append((Table.SECRETS_KEYS, row.id))

    def drop_secrets_key(self, key_id: str) -> None:
        """Delete the key's row, if it is there."""
        if key_id not in self.view.secrets_keys:
            return
        self._set(secrets_keys=self.view.secrets_keys.delete(key_id))
        self._touched.append((Table.SECRETS_KEYS, key_id))

    def put_rollout(self, rollout: Rollout) -> None:
        """Write a service's rollout."""
        rollout = evolve(rollout, version=self._version(rollout.version))
        self._set(rollouts=self.view.rollouts.set(rollout.service_id, rollout))
        self._touched.append((Table.ROLLOUTS, rollout.service_id))

    def drop_rollout(self, service_id: ServiceId) -> None:
        """Delete a service's rollout, if it is there."""
        if service_id not in self.view.rollouts:
            return
        self._set(rollouts=self.view.rollouts.delete(service_id))
        self._touched.append((Table.ROLLOUTS, service_id))

    def put_run(self, run: Run) -> None:
        """Write a job's run."""
        run = evolve(run, version=self._version(run.version))
        by_job = self.view.runs_by_job
        if run.job_id is not None:
            by_job = _with(by_job, run.job_id, run.service_id)
        self._set(runs=self.view.runs.set(run.service_id, run), runs_by_job=by_job)
        self._touched.append((Table.RUNS, run.service_id))

    def drop_run(self, service_id: ServiceId) -> None:
        """Delete a job's run, if it is there."""
        run = self.view.runs.get(service_id)
        if run is None:
            return
        by_job = self.view.runs_by_job
        if run.job_id is not None:
            by_job = _without(by_job, run.job_id, service_id)
        self._set(runs=self.view.runs.delete(service_id), runs_by_job=by_job)
        self._touched.append((Table.RUNS, service_id))

    def put_job(self, job: Job) -> None:
        """Write a job."""
        job = evolve(job, version=self._version(job.version))
        self._set(
            jobs=self.view.jobs.set(job.id, job),
            job_ids=self.view.job_ids.set(job.spec.name, job.id),
        )
        self._touched.append((Table.JOBS, job.id))

    def drop_job(self, job_id: JobId) -> None:
        """Delete a job's row, if it is there; its runs are services."""
        job = self.view.jobs.get(job_id)
        if job is None:
            return
        self._set(
            jobs=self.view.jobs.delete(job_id),
            job_ids=self.view.job_ids.delete(job.spec.name),
        )
        self._touched.append((Table.JOBS, job_id))

    def put_client(self, session: ClientSession, *, most: int) -> None:
        """Write what is remembered of a client; of more than `most`, those unused for longest
        are forgotten, one in a hundred at a time: finding them takes a look at all. No row that
        others watch."""
        clients = self.view.clients.set(session.id, session)
        if len(clients) > most:
            kept = clients.mutate()
            number = len(clients) - most + most // 100
            for old in nsmallest(number, clients.values(), key=lambda c: (c.used_at, c.id)):
                del kept[old.id]
                _write(self.view, "forgotten_at", max(self.view.forgotten_at, old.used_at))
            clients = kept.finish()
        _write(self.view, "clients", clients)

    def put_task(self, task: Task) -> None:
        """Write a task; its service never changes, and its node only from None, once."""
        view, version = self.view, self._version(task.version)
        if task.version != version:
            task = evolve(task, version=version)
        before = view.tasks.get(task.id)
        by_service, by_node = view.tasks_by_service, view.tasks_by_node
        if before is None:
            by_service = _with(by_service, task.service_id, task.id)
        if task.node_id is not None and (before is None or before.node_id is None):
            by_node = _with(by_node, task.node_id, task.id)
        if task.node_id is None and task.is_live:
            unplaced = view.unplaced.set(task.id, None)
        else:
            unplaced = _discard(view.unplaced, task.id)
        self._set(
            tasks=view.tasks.set(task.id, task),
            tasks_by_service=by_service,
            tasks_by_node=by_node,
            unplaced=unplaced,
        )
        self._touched.append((Table.TASKS, task.id))

    def put_tasks(self, tasks: Sequence[Task]) -> None:
        """Write many tasks of different ids, as `put_task` does, and keep them."""
        view = self.view
        rows, waiting, settled = view.tasks.mutate(), list[TaskId](), set[TaskId]()
        by_service: dict[ServiceId, list[TaskId]] = {}
        by_node: dict[NodeId, list[TaskId]] = {}
        for task in tasks:
            version = self._version(task.version)
            written = task if task.version == version else evolve(task, version=version)
            before = rows.get(task.id)
            if before is None:
                by_service.setdefault(task.service_id, []).append(task.id)
            if task.node_id is not None and (before is None or before.node_id is None):
                by_node.setdefault(task.node_id, []).append(task.id)
            if task.node_id is None and task.is_live:
                waiting.append(task.id)
            else:
                settled.add(task.id)
            rows[task.id] = written
            self._touched.append((Table.TASKS, task.id))
        self._set(
            tasks=rows.finish(),
            tasks_by_service=_with_all(view.tasks_by_service, by_service),
            tasks_by_node=_with_all(view.tasks_by_node, by_node),
            unplaced=_changed(view.unplaced, waiting, settled),
        )
        self.keep()

    def drop_task(self, task: Task) -> None:
        """Delete a task's row."""
        view = self.view
        by_node = view.tasks_by_node
        if task.node_id is not None:
            by_node = _without(by_node, task.node_id, task.id)
        self._set(
            tasks=view.tasks.delete(task.id),
            tasks_by_service=_without(view.tasks_by_service, task.service_id, task.id),
            tasks_by_node=by_node,
            unplaced=_discard(view.unplaced, task.id),
        )
        self._touched.append((Table.TASKS, task.id))


def _revision_key(service_id: ServiceId, number: int) -> Key:
    return (Table.REVISIONS, revision_key(service_id, number))


def _with(index: Map[K, IdSet[Id]], key: K, member: Id) -> Map[K, IdSet[Id]]:
    return index.set(key, index.get(key, Map()).set(member, None))


def _with_all(index: Map[K, IdSet[Id]], members: Mapping[K, Sequence[Id]]) -> Map[K, IdSet[Id]]:
    outer = index.mutate()
    for key, ids in members.items():
        inner = index.get(key, Map()).mutate()
        for one in ids:
            inner[one] = None
        outer[key] = inner.finish()
    return outer.finish()


def _changed(members: IdSet[Id], more: Sequence[Id], fewer: set[Id]) -> IdSet[Id]:
    """With some and without others; made anew where few are left, for removing one costs three
    times as much as adding one."""
    left = [one for one in members if one not in fewer] if 2 * len(fewer) > len(members) else None
    if left is not None:
        return Map((one, None) for one in (*left, *more))
    changed = members.mutate()
    for one in more:
        changed[one] = None
    for one in fewer:
        changed.pop(one, None)
    return changed.finish()


def _without(index: Map[K, IdSet[Id]], key: K, member: Id) -> Map[K, IdSet[Id]]:
    members = _discard(index[key], member)
    return index.set(key, members) if members else index.delete(key)


def _discard(members: IdSet[Id], member: Id) -> IdSet[Id]:
    return members.delete(member) if member in members else members
