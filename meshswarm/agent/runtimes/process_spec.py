"""A task's spec as a plain process takes it: what cannot be done is refused, nothing is ignored."""

import contextlib
import errno
import grp
import os
import pwd
import signal
import socket
from pathlib import Path

from attrs import frozen

from meshswarm.agent.devices import variables_of
from meshswarm.agent.runtimes.child import User
from meshswarm.agent.runtimes.port import RuntimeFailure
from meshswarm.model.file import FileKind
from meshswarm.model.network import Port, Protocol
from meshswarm.model.service import TaskSpec
from meshswarm.model.task import Reason
from meshswarm.store.assignments import Assignment


@frozen(kw_only=True)
class Launch:
    """What the launcher needs to know."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    working_dir: str
    user: User | None
    cgroups: tuple[Path, ...] = ()
    """Directories of the cgroups to join."""

    def as_json(self) -> dict[str, object]:
        """As plain values, the shape that `launch` reads."""
        user = self.user and [self.user.uid, self.user.gid, list(self.user.groups)]
        return {
            "argv": list(self.argv),
            "environment": self.environment,
            "working_dir": self.working_dir,
            "user": user,
            "cgroups": [str(directory / "cgroup.procs") for directory in self.cgroups],
        }


def check(spec: TaskSpec) -> None:
    """Refuse a spec that no plain process can follow; raises `RuntimeFailure`."""
    if not (spec.entrypoint or ()) + (spec.command or ()):
        raise RuntimeFailure(Reason.COMMAND_NOT_FOUND, "it has no command to run as a process")
    if spec.mounts:
        target = spec.mounts[0].target
        raise RuntimeFailure(
            Reason.MOUNT_FAILED, f"a plain process has no mounts of its own (here: {target})"
        )
    for use in spec.files:
        if "/" in use.target or use.target in ("", ".", ".."):
            raise RuntimeFailure(
                Reason.MOUNT_FAILED,
                f"a plain process has its files in a directory: {use.target} is no name there",
            )
    for port in spec.ports:
        if port.published not in (0, port.target):
            raise RuntimeFailure(
                Reason.CREATE_FAILED,
                f"a plain process listens by itself: port {port.target} cannot be published "
                f"as {port.published}",
            )
    stop_signal(spec)
    user_of(spec)


def launch(
    assignment: Assignment, *, node_name: str, files: Path, cgroups: tuple[Path, ...] = ()
) -> Launch:
    """What is to be executed for a task; the spec's environment wins over what we add.

    `files` is where the task's configs and secrets lie.
    """
    task, spec = assignment.task, assignment.spec
    kinds = [kind for kind in FileKind if any(use.kind is kind for use in spec.files)]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "MESHSWARM_TASK_ID": task.id,
        "MESHSWARM_SLOT": str(task.slot),
        "MESHSWARM_SERVICE": task.service_name,
        "MESHSWARM_NODE": node_name,
        **variables_of(task.devices),
        **{f"MESHSWARM_{k.value.upper()}S_DIR": str(files / f"{k.value}s") for k in kinds},
    }
    return Launch(
        argv=(spec.entrypoint or ()) + (spec.command or ()),
        environment=environment | dict(spec.environment),
        working_dir=spec.working_dir or "/",
        user=user_of(spec),
        cgroups=cgroups,
    )


def stop_signal(spec: TaskSpec) -> signal.Signals:
    """The signal that asks the task to end."""
    return signal_of(spec.stop_signal or "SIGTERM")


def signal_of(name: str) -> signal.Signals:
    """The signal of a name with or without SIG, or of a number."""
    text = name.upper()
    try:
        if text.isdigit():
            return signal.Signals(int(text))
        return signal.Signals[text if text.startswith("SIG") else f"SIG{text}"]
    except (KeyError, ValueError) as error:
        message = f"there is no signal {name!r}"
        raise RuntimeFailure(Reason.CREATE_FAILED, message) from error


def user_of(spec: TaskSpec) -> User | None:
    """Whom `USER[:GROUP]` (names or numbers) means on this host; None: the agent's own user."""
    if spec.user is None:
        return None
    name, _, group = spec.user.partition(":")
    entry = _passwd(name)
    uid = entry.pw_uid if entry else int(name)
    gid = _gid(group) if group else (entry.pw_gid if entry else 0)
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return None
    if os.geteuid() != 0:
        raise RuntimeFailure(
            Reason.CREATE_FAILED, f"only an agent that runs as root can run it as {spec.user!r}"
        )
    groups = os.getgrouplist(entry.pw_name, gid) if entry and not group else [gid]
    return User(uid=uid, gid=gid, groups=tuple(groups))


def published(ports: tuple[Port, ...]) -> tuple[str, ...]:
    """Where the ports are reached: the process listens on them itself."""
    return tuple(
        f"{port.host_ip or '0.0.0.0'}:{port.target}->{port.target}/{port.protocol.value}"
        for port in ports
    )


def check_ports(spec: TaskSpec) -> None:
    """Refuse to start what could not listen; raises PORT_IN_USE."""
    for port in spec.ports:
        kind = socket.SOCK_STREAM if port.protocol is Protocol.TCP else socket.SOCK_DGRAM
        if port.protocol is Protocol.SCTP:
            continue
        family = socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET
        with contextlib.closing(socket.socket(family, kind)) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
            try:
                trial.bind((port.host_ip, port.target))
            except OSError as error:
                where = f"{port.host_ip or '0.0.0.0'}:{port.target}"
                message = f"{where} cannot be listened on: {error.strerror}"
                if error.errno == errno.EADDRINUSE:
                    message = f"{where} is taken on this node"
                raise RuntimeFailure(Reason.PORT_IN_USE, message) from error


def _passwd(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        if name.isdigit():
            return None
        message = f"this host has no user {name!r}"
        raise RuntimeFailure(Reason.CREATE_FAILED, message) from None


def _gid(group: str) -> int:
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        message = f"this host has no group {group!r}"
        raise RuntimeFailure(Reason.CREATE_FAILED, message) from None
