"""Cgroups of both versions, on trees of plain files that look like the kernel's."""

from pathlib import Path

import pytest

from meshswarm.agent.runtimes import cgroup
from meshswarm.agent.runtimes.cgroup import Cgroups
from meshswarm.ids import TaskId
from meshswarm.model.resources import Resources

T1 = TaskId("t1")
LIMITS = Resources(nano_cpus=1_500_000_000, memory_bytes=1 << 20, pids=7)


def test_version_1_has_a_cgroup_per_controller(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("3:cpu,cpuacct:/unit\n2:memory:/unit\n1:pids:/\n0::/unit\n")
    for name in ("cpu/unit", "memory/unit", "pids"):
        (tmp_path / name).mkdir(parents=True)
    made = Cgroups.detect(tmp_path, own).create(T1, LIMITS)
    read = {path.name: path.read_text() for directory in made for path in directory.iterdir()}
    assert {
        "cpu.cfs_quota_us": "150000",
        "memory.limit_in_bytes": "1048576",
        "pids.max": "7",
    } == read


def test_version_2_passes_its_controllers_on_after_stepping_aside(tmp_path: Path) -> None:
    own, unit = tmp_path / "own", tmp_path / "unit"
    own.write_text("0::/unit\n")
    unit.mkdir()
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (unit / "cgroup.subtree_control").write_text("")
    (directory,) = Cgroups.detect(tmp_path, own).create(T1, LIMITS)
    assert unit / "meshswarm-t1" == directory
    assert "150000 100000" == (directory / "cpu.max").read_text()
    assert "1048576" == (directory / "memory.max").read_text()
    assert "+cpu +memory +pids" == (unit / "cgroup.subtree_control").read_text()
    assert "0" == (unit / "agent" / "cgroup.procs").read_text()


def test_a_limit_that_the_host_cannot_enforce_is_an_error(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("2:memory:/\n")
    (tmp_path / "memory").mkdir()
    cgroups = Cgroups.detect(tmp_path, own)
    with pytest.raises(OSError, match="no pids controller"):
        cgroups.create(T1, Resources(pids=5))
    assert [] == cgroups.create(T1, Resources())


def test_running_out_of_memory_is_read_in_both_versions(tmp_path: Path) -> None:
    assert not cgroup.ran_out_of_memory([tmp_path])
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    assert not cgroup.ran_out_of_memory([tmp_path])
    (tmp_path / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert cgroup.ran_out_of_memory([tmp_path])


def test_what_was_used_is_read_in_both_versions(tmp_path: Path) -> None:
    first = tmp_path / "v1"
    first.mkdir()
    (first / "cpuacct.usage").write_text("1500000000\n")
    (first / "memory.usage_in_bytes").write_text("5000\n")
    (first / "memory.stat").write_text("cache 4000\ntotal_inactive_file 2000\n")
    (first / "pids.current").write_text("3\n")
    assert {"cpu_ns": 1_500_000_000, "memory_bytes": 3_000, "pids": 3} == cgroup.usage([first])
    second = tmp_path / "v2"
    second.mkdir()
    (second / "cpu.stat").write_text("usage_usec 2500\nuser_usec 1\n")
    (second / "memory.current").write_text("5000\n")
    (second / "memory.stat").write_text("inactive_file 6000\n")
    assert {"cpu_ns": 2_500_000, "memory_bytes": 0} == cgroup.usage([second])
    assert {} == cgroup.usage([tmp_path / "gone"])
