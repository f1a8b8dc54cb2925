"""What every runtime promises: run against the fake, plain processes and a Docker engine.

A subclass says how to make a runtime (twice on the same ground, to see it adopt) and what to run.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from meshswarm.agent.card import Held, HeldState
from meshswarm.agent.runtimes.port import LogLine, Runtime, RuntimeFailure
from meshswarm.ids import TaskId
from meshswarm.model.service import HealthCheck, TaskSpec
from meshswarm.model.task import Health, Reason
from tests.agent.cards import assignment, spec

T1 = TaskId("t1")
DEADLINE_S = 15.0


class Ground:
    """Where runtimes stand: whatever outlives one of them."""

    def runtime(self) -> Runtime:
        """A new runtime on this ground."""
        raise NotImplementedError

    def spec(self, shell: str, **changes: object) -> TaskSpec:
        """A spec that runs a line of shell."""
        return spec("/bin/sh", "-c", shell, **changes)

    async def end(self, runtime: Runtime, task_id: TaskId, code: int) -> None:
        """Let a task that runs `until_told` end by itself."""
        raise NotImplementedError

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Runtime]:
        """A new runtime that knows what it holds and watches it."""
        runtime = self.runtime()
        await runtime.refresh()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(runtime.run(), name="runtime")
            try:
                yield runtime
            finally:
                watching.cancel()

    async def clean(self) -> None:
        """Leave nothing behind."""
        runtime = self.runtime()
        await runtime.refresh()
        for held in runtime.board.all():
            await runtime.stop(held.task_id, kill=True)
        async with self.running() as runtime:
            for held in runtime.board.all():
                await until(runtime, held.task_id, lambda h: h is None or h.state != 1)
                await runtime.remove(held.task_id)


async def until(
    runtime: Runtime, task_id: TaskId, is_so: Callable[[Held | None], bool]
) -> Held | None:
    """What is held of the task once `is_so`."""
    changed = asyncio.Event()
    runtime.board.listen(lambda _: changed.set())
    async with asyncio.timeout(DEADLINE_S):
        while not is_so(held := runtime.board.look(task_id)):
            changed.clear()
            await changed.wait()
    return held


async def ended(runtime: Runtime, task_id: TaskId = T1) -> Held:
    held = await until(runtime, task_id, lambda h: h is not None and h.state is HeldState.EXITED)
    assert held is not None
    assert held.exit is not None
    return held


SLEEP = "while :; do sleep 0.05; done"


class RuntimeContract:
    """Subclass it and give a `ground` fixture."""

    async def test_a_task_is_created_then_runs_then_is_gone(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            made = assignment(runs=ground.spec(SLEEP))
            assert HeldState.CREATED is (await runtime.prepare(made)).state
            held = await runtime.start(T1)
            assert HeldState.RUNNING is held.state
            assert held.started_at_ms is not None
            assert (made.task.service_id, 1, made.task.fencing) == (
                held.service_id,
                held.slot,
                held.fencing,
            )
            assert held.runtime_id
            assert held == runtime.board.look(T1)
            await runtime.stop(T1, kill=True)
            end = await ended(runtime)
            assert end.exit is not None
            assert 137 == end.exit.code
            await runtime.remove(T1)
            assert runtime.board.look(T1) is None

    async def test_every_verb_may_be_repeated(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            made = assignment(runs=ground.spec(SLEEP))
            for _ in range(2):
                await runtime.prepare(made)
            first = await runtime.start(T1)
            again = await runtime.start(T1)
            assert (first.runtime_id, first.started_at_ms) == (
                again.runtime_id,
                again.started_at_ms,
            )
            assert HeldState.RUNNING is (await runtime.prepare(made)).state
            for _ in range(2):
                await runtime.stop(T1, kill=True)
            await ended(runtime)
            await runtime.stop(T1, kill=False)
            for _ in range(2):
                await runtime.remove(T1)
            await runtime.stop(T1, kill=False)

    async def test_the_stop_signal_may_be_refused_sigkill_not(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            stubborn = ground.spec(f"trap : TERM; echo ready; {SLEEP}")
            await runtime.prepare(assignment(runs=stubborn))
            await runtime.start(T1)
            await self.stands_ready(ground, runtime)
            await runtime.stop(T1, kill=False)
            held = runtime.board.look(T1)
            assert held is not None
            assert HeldState.RUNNING is held.state
            await runtime.stop(T1, kill=True)
            await ended(runtime)

    async def stands_ready(self, ground: Ground, runtime: Runtime) -> None:
        """Wait until the task wrote its first line."""
        async with asyncio.timeout(DEADLINE_S):
            async for lines in runtime.logs(T1, follow=True, tail=None, since_ms=0):
                if lines:
                    return

    async def test_what_runs_is_not_removed(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            await runtime.prepare(assignment(runs=ground.spec(SLEEP)))
            await runtime.start(T1)
            with pytest.raises(RuntimeFailure) as failure:
                await runtime.remove(T1)
            assert Reason.STOP_FAILED is failure.value.reason
            await runtime.stop(T1, kill=True)
            await ended(runtime)

    async def test_the_next_runtime_adopts_what_runs_and_sees_it_end(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            await runtime.prepare(assignment(runs=ground.spec(SLEEP)))
            first = await runtime.start(T1)
        async with ground.running() as runtime:
            adopted = runtime.board.look(T1)
            assert first == adopted
            await runtime.stop(T1, kill=True)
            end = await ended(runtime)
            assert end.exit is not None
            assert "SIGKILL" == end.exit.signal_name

    async def test_an_end_that_nobody_watched_is_found(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            await runtime.prepare(assignment(runs=ground.spec(SLEEP)))
            await runtime.start(T1)
        unwatched = ground.runtime()
        await unwatched.refresh()
        await unwatched.stop(T1, kill=True)
        async with ground.running() as runtime:
            end = await ended(runtime)
            assert end.exit is not None
            assert 137 == end.exit.code

    async def test_what_was_only_prepared_is_found(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            await runtime.prepare(assignment(runs=ground.spec(SLEEP)))
        async with ground.running() as runtime:
            held = runtime.board.look(T1)
            assert held is not None
            assert HeldState.CREATED is held.state
            assert HeldState.RUNNING is (await runtime.start(T1)).state
            await runtime.stop(T1, kill=True)
            await ended(runtime)

    async def test_a_command_runs_beside_the_task(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            await runtime.prepare(assignment(runs=ground.spec(SLEEP)))
            await runtime.start(T1)
            done = await runtime.execute(T1, ("echo", "well"), DEADLINE_S)
            assert 0 == done.code
            assert "well" in done.output
            assert 1 <= (await runtime.stats(T1)).pids
            await runtime.stop(T1, kill=True)
            await ended(runtime)

    async def test_it_says_its_version(self, ground: Ground) -> None:
        assert await ground.runtime().version()


class RealRuntimeContract(RuntimeContract):
    """What the fake cannot promise, having nothing behind it."""

    async def test_the_exit_code_is_known(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            for number, (shell, code) in enumerate(
                [("exit 0", 0), ("exit 3", 3), ("sh -c 'kill -USR1 $$'; exit $?", 138)]
            ):
                task_id = TaskId(f"code{number}")
                await runtime.prepare(assignment(task_id, runs=ground.spec(shell)))
                await runtime.start(task_id)
                end = await ended(runtime, task_id)
                assert end.exit is not None
                assert code == end.exit.code

    async def test_output_is_kept_tailed_and_followed(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            shell = "echo one; echo oops >&2; echo two; sleep 0.3; printf three"
            await runtime.prepare(assignment(runs=ground.spec(shell)))
            await runtime.start(T1)
            followed = await self.read(runtime, follow=True, tail=None)
            assert ["one", "two", "three"] == [x.text for x in followed if x.stream == "stdout"]
            assert ["oops"] == [x.text for x in followed if x.stream == "stderr"]
            await ended(runtime)
            tail = await self.read(runtime, follow=False, tail=1)
            assert "three" in [x.text for x in tail]
            assert "one" not in [x.text for x in tail]

    async def read(self, runtime: Runtime, *, follow: bool, tail: int | None) -> list[LogLine]:
        async with asyncio.timeout(DEADLINE_S):
            return [
                line
                async for lines in runtime.logs(T1, follow=follow, tail=tail, since_ms=0)
                for line in lines
            ]

    async def test_a_missing_command_is_named(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            runs = spec("no-such-command", image=ground.spec("").image)
            runs = type(runs)(runtime=runtime.kind, image=runs.image, command=runs.command)
            await runtime.prepare(assignment(runs=runs))
            with pytest.raises(RuntimeFailure, match="no-such-command") as failure:
                await runtime.start(T1)
            assert Reason.COMMAND_NOT_FOUND is failure.value.reason

    async def test_environment_and_directory_reach_the_command(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            runs = ground.spec(
                'echo "$GREETING|$(pwd)"; env | grep dotted',
                environment={"GREETING": "hi  there", "dotted.name": "kept"},
                working_dir="/tmp",
            )
            await runtime.prepare(assignment(runs=runs))
            await runtime.start(T1)
            await ended(runtime)
            lines = [line.text for line in await self.read(runtime, follow=False, tail=None)]
            assert "hi  there|/tmp" == lines[0]

    async def test_a_health_check_is_heard(self, ground: Ground) -> None:
        check = HealthCheck(
            test=("CMD-SHELL", "test -e /tmp/$MARK"), interval_s=1.0, timeout_s=5.0, retries=1
        )
        async with ground.running() as runtime:
            for task_id, mark, health in (
                ("well", ".", Health.HEALTHY),
                ("unwell", "no-such-file", Health.UNHEALTHY),
            ):
                runs = ground.spec(SLEEP, healthcheck=check, environment={"MARK": mark})
                await runtime.prepare(assignment(task_id, runs=runs))
                assert Health.STARTING is (await runtime.start(TaskId(task_id))).health
                held = await until(
                    runtime,
                    TaskId(task_id),
                    lambda h: h is not None and h.health is not Health.STARTING,
                )
                assert held is not None
                assert health is held.health
