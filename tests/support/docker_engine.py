"""The container engine of the tests marked `docker`, and the one image that they use."""

import functools
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools.with_engine import answers

if TYPE_CHECKING:
    import docker

IMAGE = "meshswarm-test/busybox:1"
"""Made here from Debian's busybox-static; holds every applet in /bin and no more than that."""


def require() -> None:
    """Return if an engine answers and holds `IMAGE`; else skip the test, or fail it in CI."""
    problem = _problem()
    if problem is None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{problem} (tests of the engine may not be skipped in CI)", pytrace=False)
    pytest.skip(f"{problem}; `python3 tools/run.py test` starts one when run as root")


@functools.cache
def _problem() -> str | None:
    """What keeps the tests from using an engine; None when the image lies ready in one."""
    if not answers():
        return "no container engine answers"
    import docker  # takes a third of a second: only for those who need it

    client = docker.from_env(use_context=False, timeout=30)
    try:
        client.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        return put_image(client.api)
    except docker.errors.DockerException as error:
        return f"the container engine cannot be used: {error}"
    finally:
        client.close()
    return None


def put_image(api: "docker.APIClient") -> str | None:
    """Make `IMAGE` in an engine from this host's static busybox; what prevented it, or None."""
    busybox = shutil.which("busybox")
    if busybox is None or b"/lib64/ld-linux" in Path(busybox).read_bytes()[:4096]:
        return "no static busybox to make the test image from (apt-get install busybox-static)"
    repository, _, tag = IMAGE.partition(":")
    api.import_image_from_data(_filesystem(Path(busybox)), repository=repository, tag=tag)
    return None


def _filesystem(busybox: Path) -> bytes:
    """A tar of the smallest root file system: busybox, a link per applet, users, /tmp."""
    applets = subprocess.run(
        [busybox, "--list"], check=True, capture_output=True, text=True
    ).stdout.split()
    users = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add_file(tar, "bin/busybox", busybox.read_bytes(), mode=0o755)
        _add_file(tar, "etc/passwd", users, mode=0o644)
        for applet in applets:
            if applet != "busybox":
                _add_member(tar, f"bin/{applet}", tarfile.SYMTYPE, target="busybox")
        _add_member(tar, "tmp", tarfile.DIRTYPE, mode=0o1777)
    return buffer.getvalue()


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))


def _add_member(
    tar: tarfile.TarFile, name: str, kind: bytes, *, target: str = "", mode: int = 0o777
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, target, mode
    tar.addfile(member)
