#!/usr/bin/env python3
"""Every job of this project, on a bare machine with Python 3.11: `python3 tools/run.py [JOB ...]`.

Makes `.venv` with the pinned packages first, once; a stamp of the pins lets the next run skip it.
Needs nothing but the standard library, and reads on older Pythons far enough to say so.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PINS = ROOT / "tools" / "requirements.txt"
FUZZ_PINS = ROOT / "tools" / "fuzz-requirements.txt"
STAMP = VENV / "meshswarm-stamp"
OLDEST_PYTHON = (3, 11)

SIM_SEEDS, SIM_S = "1..2000", "600"
"""The simulated runs of CI, and the seconds after which no more of them begin: what one core does
beside the tests, which mostly wait, is what two would do in half that time."""

IDEAL_SEEDS = "1..1000"
"""The runs of CI in which only controllers and agents are in question; each takes half a second."""

FAILED: list[str] = []
"""What failed on the way, to be told once more at the very end."""


def main(arguments: Sequence[str]) -> int:
    """The exit code of the job that the first argument names; 2 for an unknown one."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("demo", ())
    job = JOBS.get(name)
    if job is None:
        print(usage(), file=sys.stderr)
        return 0 if name in ("-h", "--help", "help") else complain(f"no job `{name}`")
    os.chdir(ROOT)
    prepare()
    compile_sources()
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the job; wait for its end
    code = job(rest)
    print("\n".join(FAILED), end="\n" if FAILED else "", file=sys.stderr, flush=True)
    return code


def usage() -> str:
    """The jobs, a line each."""
    lines = [f"  {name:<8}{(job.__doc__ or '').splitlines()[0]}" for name, job in JOBS.items()]
    return "\n".join(["usage: python3 tools/run.py [JOB] [ARG ...]", *lines])


# --- jobs -----------------------------------------------------------------------------------------


def demo(arguments: Sequence[str]) -> int:
    """Three nodes on this host with config/demo/compose.yml deployed (the job without a name)."""
    meshswarm = str(VENV / "bin" / "meshswarm")
    os.execv(meshswarm, [meshswarm, "dev", "--deploy", "config/demo/compose.yml", *arguments])


def test(arguments: Sequence[str]) -> int:
    """All that CI checks; with arguments, only pytest with these (`test tests/raft -k vote`)."""
    if arguments:
        return run("-m", "pytest", *arguments)
    return worst(check(()), run("tools/with_engine.py", PYTHON, "-m", "pytest"))


def check(arguments: Sequence[str]) -> int:
    """Format, lint, types and layering; all four, whatever the first one finds."""
    refuse_arguments("check", arguments)
    return worst(
        run("-m", "ruff", "format", "--check", "--quiet", "--diff"),
        run("-m", "ruff", "check", "--quiet"),
        run("-m", "mypy"),
        run(VENV / "bin" / "lint-imports"),
    )


def fix(arguments: Sequence[str]) -> int:
    """Format the code, and mend what the linter can mend by itself."""
    refuse_arguments("fix", arguments)
    return worst(run("-m", "ruff", "check", "--fix", "--quiet"), run("-m", "ruff", "format"))


def bench(arguments: Sequence[str]) -> int:
    """Run tools/bench/NAME.py; without a name, list them."""
    folder = ROOT / "tools" / "bench"
    names = sorted(path.stem for path in folder.glob("[!_]*.py") if path.stem != "lab")
    if not arguments:
        print("\n".join(names) or "no benchmarks yet", file=sys.stderr)
        return 0
    if arguments[0] not in names:
        return complain(f"no benchmark `{arguments[0]}`; there are: {', '.join(names) or 'none'}")
    return run("-m", f"tools.bench.{arguments[0]}", *arguments[1:])


def sim(arguments: Sequence[str]) -> int:
    """Clusters in a deterministic world: `sim --minutes N` looks for new ways to break one."""
    if "--jobs" not in arguments and "--seed" not in arguments:
        arguments = (*arguments, "--jobs", str(os.cpu_count() or 1))
    return run("-m", "meshswarm.sim", *arguments)


def chaos(arguments: Sequence[str]) -> int:
    """A real cluster through kills, pauses, cuts, full disks: `chaos --minutes 10`."""
    return run("-m", "tools.chaos", *arguments)


def fuzz(arguments: Sequence[str]) -> int:
    """Feed garbage to what reads bytes: `fuzz TARGET --seconds N`; `fuzz -h` lists the targets."""
    probe = [str(PYTHON), "-c", "import atheris"]
    if subprocess.run(probe, check=False, capture_output=True).returncode != 0:
        install("--requirement", str(FUZZ_PINS))
    return run("-m", "tools.fuzz", *(arguments or ("-h",)))


def ci(arguments: Sequence[str]) -> int:
    """`test` as CI means it: tests of the engine may not be skipped; and beside it sim's seeds."""
    refuse_arguments("ci", arguments)
    os.environ["CI"] = "true"
    seeds = begin(
        ("-m", "meshswarm.sim", "--world", "ideal", "--seeds", IDEAL_SEEDS),
        ("-m", "meshswarm.sim", "--seeds", SIM_SEEDS, "--at-most-s", SIM_S),
    )
    return worst(test(()), seeds())


JOBS: dict[str, Callable[[Sequence[str]], int]] = {
    job.__name__: job for job in (demo, test, check, fix, bench, sim, chaos, fuzz, ci)
}


# --- running --------------------------------------------------------------------------------------


def run(*arguments: str | Path) -> int:
    """The exit code of `.venv`'s Python with these arguments; says what runs."""
    command = [str(part) for part in (PYTHON, *arguments)]
    shown = shlex.join(str(part) for part in arguments).replace(f"{ROOT}/", "")
    print(f"run: python {shown}", file=sys.stderr, flush=True)
    code = subprocess.run(command, check=False).returncode
    if code == -signal.SIGINT:
        sys.exit(130)
    if code != 0:
        FAILED.append(f"run: exit code {code} from python {shown}")
    return code


def begin(*commands: Sequence[str]) -> Callable[[], int]:
    """As `run`, one after the other, beside what follows and with the least priority. Call what it
    gives to await the end, see the output and have the first exit code that is not 0, if any."""
    codes: list[int] = []
    out = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it is closed with the process

    def run_all() -> None:
        for arguments in commands:
            print(f"run: python {shlex.join(arguments)}", file=out, flush=True)
            command = ["nice", "-n", "19", str(PYTHON), *arguments]
            code = subprocess.run(command, check=False, stdout=out, stderr=subprocess.STDOUT)
            codes.append(code.returncode)
            if codes[-1] != 0:
                FAILED.append(f"run: exit code {codes[-1]} from python {shlex.join(arguments)}")

    thread = threading.Thread(target=run_all, name="beside")
    thread.start()

    def end() -> int:
        thread.join()
        out.seek(0)
        print(out.read(), file=sys.stderr)
        return worst(*codes)

    return end


def worst(*codes: int) -> int:
    """The first exit code that is not 0, if any."""
    return next((code for code in codes if code != 0), 0)


def refuse_arguments(job: str, arguments: Sequence[str]) -> None:
    """End with exit code 2 if the job was given arguments that it does not take."""
    if arguments:
        sys.exit(complain(f"`{job}` takes no arguments, not {shlex.join(arguments)}"))


def complain(message: str, hint: str = "") -> int:
    """Say what is wrong and what helps; returns exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return 2


# --- the environment ------------------------------------------------------------------------------


def prepare() -> None:
    """`.venv` with the pinned packages and this tree; nothing to do if the stamp fits."""
    if sys.version_info < OLDEST_PYTHON:
        present, wanted = (".".join(map(str, v)) for v in (sys.version_info[:2], OLDEST_PYTHON))
        sys.exit(complain(f"this is Python {present}", f"run it with Python {wanted} or newer"))
    stamp = hashlib.sha256(PINS.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == stamp:
        return
    print("run: preparing .venv (once; a minute on a slow line)", file=sys.stderr, flush=True)
    if not PYTHON.exists():
        make_venv()
    install("--requirement", str(PINS))
    install("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    STAMP.write_text(stamp)


def compile_sources() -> None:
    """Compile what is new in this tree, as pip does with what it installs: else every process does
    that for itself where Python was told to leave no files behind (PYTHONDONTWRITEBYTECODE)."""
    command = [str(PYTHON), "-m", "compileall", "-qq", "meshswarm", "tools", "tests"]
    subprocess.run(command, check=False)  # what cannot be compiled, the job will tell of


def make_venv() -> None:
    """A fresh `.venv`, in place of what a vanished Python may have left there."""
    try:
        venv.create(VENV, clear=True, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        help_ = "on Debian: `apt-get install python3-venv`, then run this again"
        sys.exit(complain(f"cannot make {VENV}: {error}", help_))


def install(*arguments: str) -> None:
    """Have pip install these; ends the program with pip's own words where it cannot."""
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    if subprocess.run([*pip, *arguments], check=False).returncode != 0:
        help_ = "pip said why above; with the package index out of reach, try again later"
        sys.exit(complain(f"pip could not install {shlex.join(arguments)}", help_))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
