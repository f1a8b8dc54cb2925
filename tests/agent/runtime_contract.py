"""What every runtime promises: run against the fake, plain processes and a Docker engine.

A subclass says how to make a runtime (twice on the same ground, to see it adopt) and what to run.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from attrs import evolve

from meshswarm.agent.card import HeldState
from meshswarm.agent.runtimes.port import LogLine, Runtime, RuntimeFailure
from meshswarm.ids import TaskId
from meshswarm.model.file import FileKind, FileUse, Reload
from meshswarm.model.pipe import PIECE_BYTES, PipeKind, PipeWish, WindowSize
from meshswarm.model.service import HealthCheck
from meshswarm.model.task import Health, Reason
from tests.agent.cards import assignment, spec
from tests.agent.ground import (
    DEADLINE_S,
    SLEEP,
    T1,
    Ground,
    archive_of,
    ended,
    files_of,
    read_of,
    until,
)


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

    async def test_what_is_written_to_a_command_comes_back(self, ground: Ground) -> None:
        async with self.started(ground) as runtime:
            wish = PipeWish(kind=PipeKind.RUN, argv=("cat",), has_input=True)
            async with runtime.pipe(T1, wish) as pipe:
                pipe.put(b"one\n")
                assert b"one\n" == (await read_of(pipe, 4))["stdout"]
                await pipe.room()
                pipe.put(b"two")
                pipe.put(b"")
                assert {"stdout": b"two", "stderr": b""} == await read_of(pipe)
                assert 0 == await pipe.end()

    async def test_files_go_there_and_come_back(self, ground: Ground) -> None:
        sent = archive_of(fruit=b"apple " * 100_000)
        async with self.started(ground) as runtime:
            async with runtime.pipe(T1, PipeWish(kind=PipeKind.WRITE, path="/tmp")) as pipe:
                for at in range(0, len(sent), PIECE_BYTES):
                    await pipe.room()
                    pipe.put(sent[at : at + PIECE_BYTES])
                pipe.put(b"")
                assert {"stdout": b"", "stderr": b""} == await read_of(pipe)
                assert 0 == await pipe.end()
            path = self.path_of(ground)
            async with runtime.pipe(T1, PipeWish(kind=PipeKind.STAT, path=path)) as pipe:
                assert b"file" == (await read_of(pipe))["stdout"]
            async with runtime.pipe(T1, PipeWish(kind=PipeKind.STAT, path="/no/such")) as pipe:
                assert b"" == (await read_of(pipe))["stdout"]
            async with runtime.pipe(T1, PipeWish(kind=PipeKind.READ, path=path)) as pipe:
                came = (await read_of(pipe))["stdout"]
                assert 0 == await pipe.end()
            assert files_of(sent) == files_of(came)

    def path_of(self, ground: Ground) -> str:
        """Where the file is that was sent to /tmp."""
        return "/tmp/fruit"

    async def test_nothing_is_piped_to_what_does_not_run(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            with pytest.raises(RuntimeFailure):
                async with runtime.pipe(T1, PipeWish(kind=PipeKind.RUN, argv=("true",))):
                    raise AssertionError("there is no such task")

    @asynccontextmanager
    async def started(self, ground: Ground) -> AsyncIterator[Runtime]:
        async with ground.running() as runtime:
            await runtime.prepare(assignment(runs=ground.spec(SLEEP)))
            await runtime.start(T1)
            yield runtime
            await runtime.stop(T1, kill=True)
            await ended(runtime)

    async def test_a_signal_is_passed_on(self, ground: Ground) -> None:
        async with ground.running() as runtime:
            runs = ground.spec(f"trap 'echo heard' HUP; echo ready; {SLEEP}")
            await runtime.prepare(assignment(runs=runs))
            await runtime.signal(T1, "SIGHUP")
            await runtime.start(T1)
            await self.stands_ready(ground, runtime)
            await runtime.signal(T1, "SIGHUP")
            await self.says(runtime, "heard")
            await runtime.stop(T1, kill=True)
            await ended(runtime)
            await runtime.signal(T1, "SIGHUP")

    async def says(self, runtime: Runtime, text: str) -> None:
        """Wait until the task wrote this line."""
        async with asyncio.timeout(DEADLINE_S):
            async for lines in runtime.logs(T1, follow=True, tail=None, since_ms=0):
                if text in [line.text for line in lines]:
                    return

    async def test_it_says_its_version(self, ground: Ground) -> None:
        assert await ground.runtime().version()


class RealRuntimeContract(RuntimeContract):
    """What the fake cannot promise, having nothing behind it."""

    async def test_a_command_has_two_streams_and_an_exit_code(self, ground: Ground) -> None:
        async with self.started(ground) as runtime:
            for shell, out, err, code in (
                ("echo well; echo woe >&2; exit 7", b"well\n", b"woe\n", 7),
                ("cat; kill -TERM $$; sleep 9", b"", b"", 143),
            ):
                wish = PipeWish(kind=PipeKind.RUN, argv=("/bin/sh", "-c", shell))
                async with runtime.pipe(T1, wish) as pipe:
                    assert {"stdout": out, "stderr": err} == await read_of(pipe)
                    assert code == await pipe.end()

    async def test_a_terminal_has_a_size_that_changes(self, ground: Ground) -> None:
        async with self.started(ground) as runtime:
            wish = PipeWish(
                kind=PipeKind.RUN,
                argv=("/bin/sh", "-c", "read x; stty size; read x; stty size; echo got $x"),
                has_input=True,
                window=WindowSize(rows=31, columns=101),
            )
            async with runtime.pipe(T1, wish) as pipe:
                pipe.put(b"a\n")
                assert b"a\r\n31 101\r\n" == (await read_of(pipe, 11))["stdout"]
                await pipe.resize(WindowSize(rows=32, columns=99))
                pipe.put(b"it\n")
                assert b"it\r\n32 99\r\ngot it\r\n" == (await read_of(pipe))["stdout"]
                assert 0 == await pipe.end()

    async def test_a_command_that_is_not_there_ends_as_in_a_shell(self, ground: Ground) -> None:
        async with self.started(ground) as runtime:
            wish = PipeWish(kind=PipeKind.RUN, argv=("no-such-command",))
            async with runtime.pipe(T1, wish) as pipe:
                said = await read_of(pipe)
                assert b"no-such-command" in said["stdout"] + said["stderr"]
                assert await pipe.end() in (126, 127)

    async def test_files_that_are_not_there_are_named(self, ground: Ground) -> None:
        async with self.started(ground) as runtime:
            for wish in (
                PipeWish(kind=PipeKind.READ, path="/no-such-file"),
                PipeWish(kind=PipeKind.WRITE, path="/no-such-file"),
            ):
                async with runtime.pipe(T1, wish) as pipe:
                    pipe.put(archive_of(a=b""))
                    pipe.put(b"")
                    said = await read_of(pipe)
                    assert b"no-such-file" in said["stderr"]
                    assert 0 != await pipe.end()

    async def test_what_is_left_of_a_command_is_killed(self, ground: Ground) -> None:
        async with self.started(ground) as runtime:
            wish = PipeWish(kind=PipeKind.RUN, argv=("/bin/sh", "-c", "echo $$; exec sleep 98765"))
            async with runtime.pipe(T1, wish) as pipe:
                piece = await pipe.read()
                assert piece is not None
            pid = int(piece.data)
            for _ in range(100):
                done = await runtime.execute(T1, ("kill", "-0", str(pid)), DEADLINE_S)
                if done.code:
                    return
                await asyncio.sleep(0.05)
            raise AssertionError(f"process {pid} still runs")

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
            times = [line.at_ms for line in followed if line.stream == "stdout"]
            assert times == sorted(times, key=lambda at_ms: at_ms or 0)
            assert None not in times
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

    async def test_files_are_there_with_their_modes(self, ground: Ground) -> None:
        secret, config = ground.seen_at(FileKind.SECRET, "a"), ground.seen_at(FileKind.CONFIG, "b")
        uses = (
            FileUse(kind=FileKind.SECRET, source="one", target=ground.target("a"), mode=0o400),
            FileUse(kind=FileKind.CONFIG, source="two", target=ground.target("b"), mode=0o440),
        )
        shell = f"cat {secret} {config}; echo; stat -c %a {secret} {config}"
        made = assignment(runs=ground.spec(shell, files=uses))
        async with ground.running() as runtime:
            await ground.place(made)
            await runtime.prepare(made)
            await runtime.start(T1)
            await ended(runtime)
            lines = [line.text for line in await self.read(runtime, follow=False, tail=None)]
            assert ["firstsecond", "400", "440"] == lines

    async def test_other_content_appears_under_a_running_task(self, ground: Ground) -> None:
        use = FileUse(kind=FileKind.CONFIG, source="one", target=ground.target("a"))
        seen = ground.seen_at(FileKind.CONFIG, "a")
        shell = f"trap 'cat {seen}; echo' HUP; echo ready; {SLEEP}"
        runs = ground.spec(shell, files=(use,), reload=Reload(signal="SIGHUP"))
        made = assignment(runs=runs)
        async with ground.running() as runtime:
            assert await ground.place(made)
            assert not await ground.place(made)
            await runtime.prepare(made)
            await runtime.start(T1)
            await self.stands_ready(ground, runtime)
            other = evolve(runs, files=(evolve(use, source="two"),))
            assert await ground.place(evolve(made, spec=other))
            await runtime.signal(T1, "SIGHUP")
            await self.says(runtime, "second")
            await runtime.stop(T1, kill=True)
            await ended(runtime)
