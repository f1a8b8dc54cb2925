"""The process runtime: tasks as plain processes of the host, for where there is no engine.

Each task is a session of its own, led by its `keeper`, which writes the exit code down. The stop
signal goes to the command alone; once that has ended, what it left behind in its session is killed,
as in a container.

*Invariant:* everything about a task is in its directory (`task_dir`) before it can happen; a
process is only ever signalled by its mark (id and start time), never by its id alone.
Needs Linux 5.3 (pidfd). The end of a process is an event of the loop, not polled for. Logs are read
as they lie on disk; when they were written is known as `log_times` says.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from attrs import evolve

from meshswarm.agent import probes
from meshswarm.agent.card import Held, HeldState
from meshswarm.agent.files_root import FilesRoot
from meshswarm.agent.runtimes import cgroup, keeper, log_times, proc, process_pipe, process_spec
from meshswarm.agent.runtimes.child import run_command
from meshswarm.agent.runtimes.log_file import LogReader, trim
from meshswarm.agent.runtimes.port import (
    MAX_LINE,
    STREAMS,
    Board,
    Executed,
    LogLine,
    Pipe,
    RuntimeFailure,
    Stats,
    Stream,
)
from meshswarm.agent.runtimes.task_dir import Record, TaskDir, task_dirs
from meshswarm.ids import ClusterId, NodeId, TaskId
from meshswarm.model.pipe import PipeWish
from meshswarm.model.probe import CommandCheck, Probe
from meshswarm.model.resources import Resources
from meshswarm.model.service import RuntimeKind, TaskSpec
from meshswarm.model.task import Reason
from meshswarm.store.assignments import Assignment

log = logging.getLogger(__name__)

TRIM_TURNS = 4
"""Looks at logs until they are trimmed, too."""

FOLLOW_INTERVAL_S = 0.2
"""How often a log that somebody follows is looked at."""

KILL_TIMEOUT_S = 5.0
"""How long `kill_all` waits for what it killed."""

LEFT_BEHIND_S = 0.2
"""How long the loop waits, at the end of a command, for what that left behind and was killed: a
successor may want the same port. A killed process is gone within a millisecond."""

MAX_PARALLEL_CHECKS = 4
"""Health checks at once; further ones wait, and are late."""


class ProcessRuntime:
    """Plain processes, kept in `root` (a directory of ours alone), one directory a task."""

    kind = RuntimeKind.PROCESS

    def __init__(
        self,
        root: Path,
        *,
        cluster_id: ClusterId,
        node_id: NodeId,
        node_name: str,
        log_bytes: int,
        files: FilesRoot,
    ) -> None:
        self.board = Board()
        self._root = root
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._node_name = node_name
        self._log_bytes = log_bytes
        self._files = files
        self._pidfds: dict[TaskId, int] = {}
        self._log_sizes: dict[tuple[TaskId, Stream], int] = {}
        self._checks: dict[TaskId, asyncio.Task[None]] = {}
        self._checking = asyncio.Semaphore(MAX_PARALLEL_CHECKS)
        self._group: asyncio.TaskGroup | None = None
        self._cgroups: cgroup.Cgroups | None = None

    async def run(self) -> None:
        """Keep logs small and check health until cancelled; processes go on without us."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for held in self.board.all():
                    self._begin_checks(held)
                for turn in itertools.count(1):
                    await asyncio.sleep(log_times.INTERVAL_S)
                    for task_id in self._pidfds:
                        self._mark_logs(task_id)
                    if turn % TRIM_TURNS == 0:
                        self._trim_logs()
        finally:
            self._group = None
            for task_id in list(self._pidfds):
                self._unwatch(task_id)

    async def version(self) -> str:
        """The kernel's release; processes are always there."""
        return os.uname().release

    async def refresh(self) -> None:
        """Adopt what the directories tell of; what is watched already is left as it is."""
        for task_dir in task_dirs(self._root):
            if task_dir.task_id not in self._pidfds:
                await self._adopt(task_dir)
        for held in self.board.all():
            if not self._dir(held.task_id).path.exists():
                self.board.drop(held.task_id)

    async def prepare(self, assignment: Assignment) -> Held:
        """Check that it can run here, and make its directory."""
        process_spec.check(assignment.spec)
        task_dir = self._dir(assignment.task.id)
        with _disk_failures(Reason.CREATE_FAILED):
            if task_dir.record() is None:
                record = Record(
                    cluster_id=self._cluster_id, node_id=self._node_id, assignment=assignment
                )
                task_dir.create(record)
        held = self.board.look(assignment.task.id)
        return held or self.board.put(keeper.held_of(task_dir, self._record(task_dir)))

    async def start(self, task_id: TaskId) -> Held:
        """Start the command; returns once it was executed."""
        task_dir = self._dir(task_id)
        record = self._record(task_dir)
        if record is None:
            raise RuntimeFailure(Reason.START_FAILED, f"{task_dir.path} has no readable record")
        if task_dir.life().boot_id is None:
            process_spec.check_ports(record.assignment.spec)
            with _disk_failures(Reason.START_FAILED):
                self._spawn(task_dir, record.assignment)
        held = await self._adopt(task_dir)
        if (failure := task_dir.life().failure) is not None:
            raise RuntimeFailure(*failure)
        return held

    async def stop(self, task_id: TaskId, *, kill: bool) -> None:
        """Signal the command; SIGKILL goes to everything in its session but the keeper."""
        task_dir = self._dir(task_id)
        life, record = task_dir.life(), self._record(task_dir)
        if life.keeper is None:
            return
        if kill:
            for member in proc.session_members(life.keeper):
                if member != life.keeper:
                    proc.send(member, signal.SIGKILL)
            return
        spec = record.assignment.spec if record else TaskSpec()
        proc.send(life.task or life.keeper, process_spec.stop_signal(spec))

    async def signal(self, task_id: TaskId, name: str) -> None:
        """Signal the command alone."""
        life = self._dir(task_id).life()
        if life.task is not None:
            proc.send(life.task, process_spec.signal_of(name))

    async def remove(self, task_id: TaskId) -> None:
        """Delete the directory and the cgroups."""
        task_dir = self._dir(task_id)
        life = task_dir.life()
        if life.keeper is not None and life.keeper.is_alive:
            raise RuntimeFailure(Reason.STOP_FAILED, f"task {task_id} still runs")
        self._unwatch(task_id)
        with _disk_failures(Reason.STOP_FAILED):
            cgroup.remove(task_dir.cgroups())
            await asyncio.to_thread(task_dir.remove)
        for stream in STREAMS:
            self._log_sizes.pop((task_id, stream), None)
        self.board.drop(task_id)

    async def execute(self, task_id: TaskId, argv: Sequence[str], timeout_s: float) -> Executed:
        """Run a command with the task's environment, user and directory."""
        task_dir = self._dir(task_id)
        record = self._record(task_dir)
        if record is None:
            raise RuntimeFailure(Reason.START_FAILED, f"task {task_id} is not here")
        launch = process_spec.launch(
            record.assignment,
            node_name=self._node_name,
            files=self._files.files(self.kind, task_id),
        )
        return await run_command(
            argv,
            environment=launch.environment,
            working_dir=launch.working_dir,
            user=launch.user,
            timeout_s=timeout_s,
        )

    @contextlib.asynccontextmanager
    async def pipe(self, task_id: TaskId, wish: PipeWish) -> AsyncIterator[Pipe]:
        """A process with the task's environment, user, directory and limits."""
        task_dir = self._dir(task_id)
        record, held = self._record(task_dir), self.board.look(task_id)
        if record is None or held is None or held.state is not HeldState.RUNNING:
            raise RuntimeFailure(Reason.START_FAILED, f"task {task_id} does not run")
        launch = evolve(
            process_spec.launch(
                record.assignment,
                node_name=self._node_name,
                files=self._files.files(self.kind, task_id),
                cgroups=tuple(task_dir.cgroups()),
            ),
            argv=wish.argv,
        )
        if wish.window is not None:
            launch = evolve(launch, environment={"TERM": "xterm"} | launch.environment)
        async with process_pipe.opened(launch, wish) as pipe:
            yield pipe

    async def stats(self, task_id: TaskId) -> Stats:
        """What its cgroup counted, if it has limits, else what its session's processes use."""
        task_dir = self._dir(task_id)
        life = task_dir.life()
        if life.keeper is None or not life.keeper.is_alive:
            raise RuntimeFailure(Reason.START_FAILED, f"task {task_id} does not run")
        cpu_ns, memory_bytes, pids = proc.session_stats(life.keeper)
        seen = Stats(cpu_ns=cpu_ns, memory_bytes=memory_bytes, pids=pids)
        return evolve(seen, **cgroup.usage(task_dir.cgroups()))

    async def logs(
        self, task_id: TaskId, *, follow: bool, tail: int | None, since_ms: int
    ) -> AsyncIterator[tuple[LogLine, ...]]:
        """What it wrote, stdout before stderr where both have news."""
        task_dir = self._dir(task_id)
        readers: dict[Stream, LogReader] = {}
        with contextlib.ExitStack() as stack:
            for stream in STREAMS:
                path = task_dir.log(stream)
                if path.exists():
                    readers[stream] = LogReader(path, tail, MAX_LINE)
                    stack.callback(readers[stream].close)
            while True:
                held = self.board.look(task_id)
                over = held is None or held.state is HeldState.EXITED or not follow
                news = False
                for stream, reader in readers.items():
                    if lines := reader.lines(last=over):
                        news = True
                        times = log_times.Times(task_dir.log(stream), task_dir.times(stream))
                        told = ((times.at(end), text) for end, text in lines)
                        yield tuple(
                            LogLine(stream=stream, text=text, at_ms=at_ms)
                            for at_ms, text in told
                            if at_ms >= since_ms
                        )
                if not news and over:
                    return
                await asyncio.sleep(0 if news else FOLLOW_INTERVAL_S)

    # --- starting and adopting --------------------------------------------------------------------

    def _spawn(self, task_dir: TaskDir, assignment: Assignment) -> None:
        launch = process_spec.launch(
            assignment,
            node_name=self._node_name,
            files=self._files.files(self.kind, task_dir.task_id),
            cgroups=self._make_cgroups(assignment),
        )
        task_dir.write_launch(launch.as_json())
        keeper.spawn(task_dir, assignment.task.name)

    def _make_cgroups(self, assignment: Assignment) -> tuple[Path, ...]:
        limits = assignment.spec.limits
        if limits == Resources():
            return ()
        try:
            self._cgroups = self._cgroups or cgroup.Cgroups.detect()
            return tuple(self._cgroups.create(assignment.task.id, limits))
        except OSError as error:
            message = f"its limits need a cgroup, which this node's agent cannot make: {error}"
            raise RuntimeFailure(Reason.START_FAILED, message) from error

    async def _adopt(self, task_dir: TaskDir) -> Held:
        """Watch a task that was started, or learn how it ended."""
        life = await keeper.settled(task_dir)
        if life.boot_id is None:
            return self.board.put(keeper.held_of(task_dir, self._record(task_dir)))
        if life.keeper is not None and life.boot_id == proc.boot_id():
            pidfd = proc.open_pidfd(life.keeper)
            if pidfd is not None:
                return self._watch(task_dir, pidfd)
            proc.kill_session(life.keeper)
        return self._note_end(task_dir)

    def _watch(self, task_dir: TaskDir, pidfd: int) -> Held:
        self._unwatch(task_dir.task_id)
        self._pidfds[task_dir.task_id] = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._keeper_ended, task_dir)
        held = self.board.put(keeper.held_of(task_dir, self._record(task_dir)))
        self._begin_checks(held)
        return held

    def _keeper_ended(self, task_dir: TaskDir) -> None:
        life = task_dir.life()
        assert life.keeper is not None
        proc.await_end(proc.kill_session(life.keeper), LEFT_BEHIND_S)
        with contextlib.suppress(ChildProcessError):  # of an earlier agent: somebody else reaps it
            os.waitpid(life.keeper.pid, os.WNOHANG)
        self._unwatch(task_dir.task_id)
        self._mark_logs(task_dir.task_id)
        self._note_end(task_dir)

    def _note_end(self, task_dir: TaskDir) -> Held:
        held = keeper.held_of(task_dir, self._record(task_dir))
        ended = keeper.exit_of(task_dir.life(), task_dir.cgroups())
        return self.board.put(evolve(held, state=HeldState.EXITED, exit=ended))

    def _unwatch(self, task_id: TaskId) -> None:
        pidfd = self._pidfds.pop(task_id, None)
        if pidfd is not None:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)
        check = self._checks.pop(task_id, None)
        if check is not None:
            check.cancel()

    # --- health and logs --------------------------------------------------------------------------

    def _begin_checks(self, held: Held) -> None:
        """Check the health of a running task, once `run` runs."""
        record = self._record(self._dir(held.task_id))
        check = probes.check_of(record.assignment.spec) if record is not None else None
        if check is None or self._group is None or held.task_id in self._checks:
            return
        if held.state is HeldState.RUNNING:
            self._checks[held.task_id] = self._group.create_task(
                self._check(held, probes.probe_of(check)), name=f"health {held.task_id}"
            )

    async def _check(self, held: Held, probe: Probe) -> None:
        """Check until the task ends; `_unwatch` cancels it then."""
        loop, task_id = asyncio.get_running_loop(), held.task_id
        state = probes.first(loop.time(), held.health)
        assert isinstance(probe.check, CommandCheck), f"a health check is a command: {probe}"
        while True:
            await asyncio.sleep(max(0.0, probes.due_s(probe, state) - loop.time()))
            async with self._checking:
                done = await self.execute(task_id, probe.check.argv, probe.timeout_s)
            said = done.output if done.output.strip() else f"exit code {done.code}"
            state = probes.after_check(
                probe, state, is_well=done.code == 0, output=said, now_s=loop.time()
            )
            if held.health is not state.health:
                held = evolve(held, health=state.health, health_message=state.message)
                self._dir(task_id).note(f"health {state.health.value}")
                self.board.put(held)

    def _mark_logs(self, task_id: TaskId) -> None:
        """Note when its output was written."""
        task_dir = self._dir(task_id)
        for stream in STREAMS:
            key = (task_id, stream)
            try:
                self._log_sizes[key] = log_times.mark(
                    task_dir.log(stream), task_dir.times(stream), self._log_sizes.get(key, 0)
                )
            except OSError as error:
                log.warning("cannot mark task=%s stream=%s: %s", task_id, stream, error)

    def _trim_logs(self) -> None:
        for task_id in self._pidfds:
            for stream in STREAMS:
                try:
                    trim(self._dir(task_id).log(stream), self._log_bytes)
                except OSError as error:
                    log.warning("cannot trim task=%s stream=%s: %s", task_id, stream, error)

    def _dir(self, task_id: TaskId) -> TaskDir:
        return TaskDir(self._root, task_id)

    def _record(self, task_dir: TaskDir) -> Record | None:
        """The directory's record, if it is whole and ours."""
        record = task_dir.record()
        ours = (self._cluster_id, self._node_id)
        return record if record and (record.cluster_id, record.node_id) == ours else None


def kill_all(data_dir: Path) -> int:
    """Kill every process that the agent of this data directory started; returns how many.

    Stands for the loss of the host: no agent need be running. Blocks until they are gone.
    """
    killed: list[proc.Mark] = []
    for task_dir in task_dirs(root_of(data_dir)):
        life = task_dir.life()
        if life.keeper is not None and life.boot_id == proc.boot_id():
            killed += proc.kill_session(life.keeper)
    proc.await_end(killed, KILL_TIMEOUT_S)
    return len(killed)


def root_of(data_dir: Path) -> Path:
    """Where an agent keeps its processes, in its data directory."""
    return data_dir / "process"


@contextlib.contextmanager
def _disk_failures(reason: Reason) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RuntimeFailure(reason, f"cannot use its directory: {error}") from error
