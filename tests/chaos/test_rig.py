"""The rig: what is cut does not arrive, what is dead is gone, what others made stays."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import dev
from tests.support.dev import eventually
from tools.rig.rig import NAMESPACES, RUNS, Rig, can_freeze, is_alive, raised, runs, sweep

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(60)]

ROOT = Path(__file__).parents[2]
PORT = 9
SILENCE_S = 0.2

Hears = Callable[[str, str], bool]


@contextmanager
def listening(rig: Rig) -> Iterator[Hears]:
    """Whether the first host hears what the second one says."""
    ears: dict[str, socket.socket] = {}
    for host in rig.hosts:
        with rig.entered(host):
            ears[host] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            ears[host].bind((rig.address(host), PORT))
            ears[host].settimeout(SILENCE_S)

    def hears(listener: str, speaker: str) -> bool:
        ears[speaker].sendto(speaker.encode(), (rig.address(listener), PORT))
        try:
            return ears[listener].recv(100) == speaker.encode()
        except TimeoutError:
            return False

    try:
        yield hears
    finally:
        for ear in ears.values():
            ear.close()


def test_hosts_are_cut_one_way_or_both_and_healed() -> None:
    with raised("a", "b", "c") as rig, listening(rig) as hears:
        assert hears("a", "b")
        assert hears("b", "a")
        rig.drop("a", "b")
        assert not hears("b", "a")
        assert hears("a", "b")
        assert hears("c", "a")
        rig.drop("a", "b")
        rig.let_pass("a", "b")
        assert not hears("b", "a"), "dropped twice, let pass once"
        rig.let_pass("a", "b")
        assert hears("b", "a")
        rig.unplug("a")
        assert not hears("b", "a")
        assert not hears("a", "c")
        rig.plug("a")
        eventually(lambda: hears("b", "a"))


def test_packets_are_lost_by_chance() -> None:
    with raised("a", "b") as rig, listening(rig) as hears:
        hears("a", "b")
        rig.lose("a", 1.0)
        assert not hears("a", "b")
        assert hears("b", "a"), "only what arrives at a is lost"
        rig.lose("a", 0)
        assert hears("a", "b")


def test_a_host_is_killed_with_all_its_processes() -> None:
    with raised("a", "b") as rig:
        sleepers = {
            host: rig.spawn(host, ["sh", "-c", "sleep 1000 & sleep 1000"], subprocess.DEVNULL)
            for host in rig.hosts
        }
        rig.kill_all("a")
        assert sleepers["a"].wait() == -signal.SIGKILL
        assert sleepers["b"].poll() is None
        rig.kill_all("b")
        assert sleepers["b"].wait() == -signal.SIGKILL


def test_a_disk_holds_what_fits_and_no_more() -> None:
    with raised("a") as rig:
        disk = rig.disk("a", 1 << 20)
        (disk / "half").write_bytes(bytes(1 << 19))
        with pytest.raises(OSError, match="No space left"):
            (disk / "more").write_bytes(bytes(1 << 20))


@pytest.mark.skipif(not can_freeze(), reason="no loop devices, or no mkfs.ext4 or fsfreeze")
def test_a_disk_hangs_while_it_is_frozen_and_hinders_no_removal() -> None:
    with raised("a") as rig:
        disk = rig.freezable_disk("a", 32 << 20)
        rig.freeze("a")
        writer = rig.spawn("a", ["sh", "-c", f"echo x > {disk}/file"], subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(timeout=1)
        rig.thaw("a")
        assert writer.wait() == 0
        rig.freeze("a")
        stuck = rig.spawn("a", ["sh", "-c", f"echo y > {disk}/file"], subprocess.DEVNULL)
    assert stuck.returncode is not None
    assert not disk.exists()


DRIVER = """
import subprocess, sys, time
from tests.support import dev
from tests.support.dev import eventually
from tools.rig.rig import raised
with raised("a", "b") as rig:
    (rig.disk("a", 1 << 20) / "file").write_text("x")
    sleeper = rig.spawn("b", ["sleep", "1000"], subprocess.DEVNULL)
    print(rig.name, sleeper.pid, rig.scratch, flush=True)
    time.sleep(1000)
"""


def test_what_a_killed_run_has_left_is_removed_by_the_next_and_nothing_else() -> None:
    with raised("a") as bystander:
        (bystander.scratch / "mine").write_text("x")
        command = [sys.executable, "-c", DRIVER]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout is not None
            name, sleeper, scratch = driver.stdout.readline().split()
            assert is_alive(name)
            assert [] == sweep(), "a living run is left alone"
            driver.kill()
        assert not is_alive(name)
        assert [name] == sweep()
        assert name not in runs()
        assert [] == list(NAMESPACES.glob(f"*{name}*"))
        assert not (RUNS / name).exists()
        assert f"{RUNS / name}/" not in Path("/proc/self/mounts").read_text()
        assert not Path(scratch).exists()
        assert not dev.is_alive(sleeper)
        assert (bystander.scratch / "mine").exists()
        assert (NAMESPACES / bystander.namespace("a")).exists()
    assert bystander.name not in runs()
