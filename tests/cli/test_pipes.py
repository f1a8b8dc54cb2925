"""`exec` and `cp`: which task is meant, what goes to and fro, and how it ends."""

import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from meshswarm.agent.runtimes.fake_pipe import FakePipe
from meshswarm.cli.copy import Place, landing, parse
from meshswarm.cli.main import main
from meshswarm.cli.targets import label, running_task
from meshswarm.errors import Conflict, NotFound
from meshswarm.ids import TaskId
from meshswarm.model.pipe import PipeKind, PipeWish, WindowSize
from meshswarm.model.service import Mode
from meshswarm.model.task import Health, TaskState
from meshswarm.piping import RemotePipe
from meshswarm.store.commands import PutService
from meshswarm.store.view import View
from tests.support.fake_cluster import (
    FakeClient,
    cluster_of,
    service,
    stack,
    then,
    with_stack,
    with_task,
)

Capture = pytest.CaptureFixture[str]


def shop() -> View:
    """`shop_web.1` starting, `.2` unhealthy on n1, `.3` running on n2; `shop_all` on both nodes."""
    view = with_stack(cluster_of("n1", "n2"), stack("shop", web=3))
    view = then(view, PutService(spec=service("shop_all", 1, Mode.GLOBAL)))
    view = with_task(view, "shop_web", 1, "n1", TaskState.STARTING)
    view = with_task(view, "shop_web", 2, "n1", TaskState.RUNNING, health=Health.UNHEALTHY)
    view = with_task(view, "shop_web", 3, "n2", TaskState.RUNNING)
    view = with_task(view, "shop_all", 0, "n1", TaskState.RUNNING)
    return with_task(view, "shop_all", 0, "n2", TaskState.FAILED)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("shop_web", "shop_web.3"),
        ("shop_web.2", "shop_web.2"),
        ("shop_all.n1", "shop_all.n1"),
        ("shop_all", "shop_all.n1"),
    ],
)
def test_a_service_or_slot_means_a_task_that_runs(target: str, name: str) -> None:
    view = shop()
    task = running_task(view, target)
    assert name == label(view, task)
    assert task == running_task(view, task.id)
    assert task == running_task(view, task.name), "a container's name"


@pytest.mark.parametrize("target", ["shop_web.1", "shop_web.9", "shop_all.n2"])
def test_a_slot_in_which_nothing_runs_is_told_apart_from_none(target: str) -> None:
    with pytest.raises(Conflict, match="no task of") as refused:
        running_task(shop(), target)
    assert "meshswarm why shop_" in (refused.value.hint or "")


def test_a_task_that_does_not_run_is_refused() -> None:
    view = shop()
    starting = next(t for t in view.tasks.values() if t.status.state is TaskState.STARTING)
    with pytest.raises(Conflict, match="is starting"):
        running_task(view, starting.id)
    with pytest.raises(NotFound, match="there is no service, slot or task 'nope'"):
        running_task(view, "nope")


# --- exec -----------------------------------------------------------------------------------------


class Far:
    """A client whose pipes lead to a `FakePipe`."""

    def __init__(self) -> None:
        self.client = FakeClient(shop())
        self.files: dict[str, bytes] = {}
        self.wishes: list[tuple[TaskId, PipeWish]] = []
        self.exit_code: int | None = None
        self.says = b""
        self.client.pipe = self.pipe  # type: ignore[attr-defined]

    @asynccontextmanager
    async def pipe(self, task_id: TaskId, wish: PipeWish) -> AsyncIterator[RemotePipe]:
        self.wishes.append((task_id, wish))
        yield cast(RemotePipe, Near(FakePipe(wish, self.files), self))


class Near:
    """What `RemotePipe` is to a client."""

    def __init__(self, pipe: FakePipe, far: Far) -> None:
        self._pipe = pipe
        self._far = far
        self._has_spoken = not far.says
        self.exit_code: int | None = None

    async def read(self) -> object:
        from meshswarm.piping import Output

        if not self._has_spoken:
            self._has_spoken = True
            return Output("stderr", self._far.says)
        piece = None if self._far.exit_code else await self._pipe.read()
        if piece is None:
            self.exit_code = self._far.exit_code or await self._pipe.end()
        return piece and Output(piece.stream, piece.data)

    async def write(self, data: bytes) -> None:
        self._pipe.put(data)

    async def end_input(self) -> None:
        self._pipe.put(b"")

    async def resize(self, window: WindowSize) -> None:
        await self._pipe.resize(window)


@pytest.fixture
def far() -> Far:
    return Far()


def test_standard_input_goes_in_and_output_comes_out(
    far: Far, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"to and fro\n")
    os.close(writer)
    saved = os.dup(0)
    os.dup2(reader, 0)
    try:
        assert main(["exec", "shop_web.3", "-i", "--", "cat", "-u"], far.client.connect) == 0
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(reader)
    assert b"to and fro\n" == capfdbinary.readouterr().out
    wish = PipeWish(kind=PipeKind.RUN, argv=("cat", "-u"), has_input=True)
    assert [(running_task(far.client.view, "shop_web.3").id, wish)] == far.wishes


def test_the_commands_exit_code_is_ours(far: Far, capfd: Capture) -> None:
    far.exit_code, far.says = 7, b"oh no\n"
    assert main(["exec", "shop_web", "--", "sh", "-c", "exit 7"], far.client.connect) == 7
    said = capfd.readouterr().err
    assert said.endswith("oh no\n")
    assert "in shop_web.3, task" in said, "which one it was is not plain from a service"


def test_options_of_the_command_stand_behind_two_dashes(far: Far, capsys: Capture) -> None:
    assert main(["exec", "shop_web", "ls", "-l"], far.client.connect) == 2
    assert "No such option: -l" in capsys.readouterr().err
    assert main(["exec", "shop_web"], far.client.connect) == 2
    assert main(["exec", "shop_web", "-it", "--", "sh"], far.client.connect) == 2
    assert "standard input is no terminal" in capsys.readouterr().err


def test_a_terminal_is_as_large_as_ours(far: Far) -> None:
    assert main(["exec", "shop_web.3", "-t", "--", "top"], far.client.connect) == 0
    assert far.wishes[0][1].window is not None
    assert far.wishes[0][1].has_input is False


# --- cp -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("shop_web.1:/etc/x", Place("/etc/x", "shop_web.1")),
        ("shop_web:x", Place("x", "shop_web")),
        ("shop_web:", Place(".", "shop_web")),
        ("./a:b", Place("./a:b")),
        ("/a:b", Place("/a:b")),
        ("file", Place("file")),
    ],
)
def test_a_place_is_here_or_in_a_task(text: str, place: Place) -> None:
    assert place == parse(text)


@pytest.mark.parametrize(
    ("path", "what", "landed"),
    [
        ("/srv", "directory", ("/srv", "a")),
        ("/srv/", "", ("/srv/", "a")),
        ("/srv/b", "file", ("/srv", "b")),
        ("/srv/b", "", ("/srv", "b")),
        ("b", "", (".", "b")),
    ],
)
def test_files_land_as_with_cp(path: str, what: str, landed: tuple[str, str]) -> None:
    assert landed == landing(path, what, "a")


def test_a_tree_goes_there_and_comes_back_under_another_name(
    far: Far, tmp_path: Path, capsys: Capture
) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "big").write_bytes(b"0123456789" * 50_000)
    (tree / "small").write_text("x")
    os.link(tree / "small", tree / "hard")
    (tree / "soft").symlink_to("small")
    assert main(["cp", str(tree), "shop_web.3:/srv/site"], far.client.connect) == 0
    assert "4 files copied to shop_web.3:/srv/site" in capsys.readouterr().err
    kinds = [wish.kind for _, wish in far.wishes]
    assert [PipeKind.STAT, PipeKind.WRITE] == kinds
    assert ["/srv"] == list(far.files)

    far.files["/srv/site"] = far.files["/srv"]
    assert main(["cp", "shop_web.3:/srv/site", str(tmp_path / "back")], far.client.connect) == 0
    back = tmp_path / "back"
    assert (back / "deep" / "big").read_bytes() == (tree / "deep" / "big").read_bytes()
    assert (back / "hard").samefile(back / "small")
    assert Path("small") == (back / "soft").readlink()
    assert main(["cp", "shop_web.3:/srv/site", str(back)], far.client.connect) == 0
    assert (back / "site" / "small").read_text() == "x", "into a directory that is there"


def test_an_archive_that_leads_elsewhere_is_refused(
    far: Far, tmp_path: Path, capsys: Capture
) -> None:
    """A task may be anybody's: it must not write beside what was asked for."""
    import tarfile

    for name, link in (("site/../../evil", None), ("site", "/etc/passwd")):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo(name)
            if link is not None:
                member.type, member.linkname = tarfile.SYMTYPE, link
            archive.addfile(member)
        far.files["/srv/site"] = buffer.getvalue()
        arguments = ["cp", "shop_web.3:/srv/site", str(tmp_path / "back")]
        assert main(arguments, far.client.connect) == 1
        assert "error: cannot write to" in capsys.readouterr().err
        assert not (tmp_path.parent / "evil").exists()


def test_what_cannot_be_copied_is_said(far: Far, tmp_path: Path, capsys: Capture) -> None:
    for arguments, code, words in (
        (["a", "b"], 2, "name one task, as TASK:PATH"),
        (["shop_web:a", "shop_web:b"], 2, "name one task, as TASK:PATH"),
        (["shop_web:/a b", "-"], 3, "hint: meshswarm exec shop_web -- tar -cf - '/a b'"),
        (["-", "shop_web.3:/a"], 3, "hint: meshswarm exec -i shop_web.3 -- tar -xf - -C /a"),
        ([str(tmp_path / "no"), "shop_web:/"], 5, "there is no file or directory"),
        (["shop_web:/x", str(tmp_path / "no" / "x")], 5, "hint: mkdir -p"),
        (["shop_web.1:/x", str(tmp_path)], 6, "no task of shop_web.1 runs"),
        (["shop_web.3:/x", str(tmp_path)], 1, "No such file"),
    ):
        far.exit_code, far.says = (1, b"No such file: /x\n") if code == 1 else (None, b"")
        assert main(["cp", *arguments], far.client.connect) == code, arguments
        assert words in capsys.readouterr().err


def test_the_first_healthy_slot_is_taken_even_if_another_is_lower() -> None:
    view = with_task(shop(), "shop_web", 1, "n1", TaskState.RUNNING)
    assert running_task(view, "shop_web").slot == 1
