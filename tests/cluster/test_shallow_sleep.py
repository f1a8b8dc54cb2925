"""What Linux is asked for while one write follows the other, and that it is withdrawn again."""

import asyncio
import logging
import sys
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from meshswarm.cluster import shallow_sleep
from meshswarm.cluster.shallow_sleep import ShallowSleep, bearable_us, is_busy


@pytest.mark.parametrize(("done", "busy"), [(0, False), (19, False), (20, True), (5_000, True)])
def test_two_hundred_a_second_follow_each_other(done: int, busy: bool) -> None:
    assert is_busy(done, 0.1) is busy


def test_only_a_virtual_processor_gets_no_sleep_at_all() -> None:
    assert bearable_us("haltpoll") == 0
    assert bearable_us("intel_idle") == bearable_us("acpi_idle") == bearable_us("") == 10


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A file in place of the device: it keeps what was written to it."""
    path = tmp_path / "cpu_dma_latency"
    path.touch()
    return path


@pytest.fixture
def idle_driver(tmp_path: Path) -> Path:
    path = tmp_path / "current_driver"
    path.write_text("haltpoll\n")
    return path


def _opened(device: Path) -> int:
    """How many descriptors this process has of the device."""
    links = Path("/proc/self/fd").iterdir()
    return sum(1 for link in links if link.is_symlink() and link.resolve() == device)


def test_it_is_asked_for_once_and_withdrawn_when_little_is_done(
    device: Path, idle_driver: Path
) -> None:
    sleep = ShallowSleep(lambda: 0, device=device, idle_driver=idle_driver)
    sleep.look(19, 0.1)
    assert not sleep.is_asked_for
    assert device.read_bytes() == b""
    for _ in range(3):
        sleep.look(20, 0.1)
        assert sleep.is_asked_for
        assert device.read_bytes() == bytes(4)
        assert _opened(device) == 1
    sleep.look(19, 0.1)
    assert not sleep.is_asked_for
    assert _opened(device) == 0


def test_a_kernel_without_idle_drivers_is_asked_for_shallow_states(
    device: Path, tmp_path: Path
) -> None:
    sleep = ShallowSleep(lambda: 0, device=device, idle_driver=tmp_path / "none")
    sleep.look(20, 0.1)
    assert int.from_bytes(device.read_bytes(), sys.byteorder) == 10


async def test_it_looks_at_what_was_done_since(
    device: Path, idle_driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shallow_sleep, "LOOK_S", 0.001)
    done = iter([7, 7, 1_007, 1_007])
    asked = list[bool]()

    def ask() -> int:
        asked.append(sleep.is_asked_for)
        if (now := next(done, None)) is None:
            raise OSError("the end of this test")
        return now

    sleep = ShallowSleep(ask, device=device, idle_driver=idle_driver)
    await sleep.run()
    # The first look found nothing new, the second a lot, the third nothing again.
    assert asked == [False, False, False, True, False]


async def test_it_is_withdrawn_when_the_node_ends(
    device: Path, idle_driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shallow_sleep, "LOOK_S", 0.001)
    opened = list[int]()
    numbers = count(step=1_000)

    def ask() -> int:
        opened.append(_opened(device))
        if opened[-1]:
            running.cancel()
        return next(numbers)

    sleep = ShallowSleep(ask, device=device, idle_driver=idle_driver)
    async with asyncio.TaskGroup() as parts:
        running = parts.create_task(sleep.run(), name="shallow sleep")
    assert running.cancelled()
    assert opened[-1] == 1
    assert _opened(device) == 0


async def test_who_may_not_ask_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shallow_sleep, "LOOK_S", 0.001)
    done = count(step=1_000)
    with caplog.at_level(logging.INFO, "meshswarm.cluster"):
        await ShallowSleep(partial(next, done), device=tmp_path / "none").run()
    assert "sleep as deep as they like" in caplog.text
