"""The house rules, as tests: sizes, names, layering, and what must not be in the tree."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "meshswarm"
OURS = ("meshswarm", "tests", "tools", "config", ".ci")
SOURCES = sorted(
    path.relative_to(ROOT) for folder in OURS for path in (ROOT / folder).rglob("*.py")
)
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70


def texts() -> list[Path]:
    """Every file that we wrote, except this one, which must name what it forbids."""
    top = [path for path in ROOT.iterdir() if path.suffix in (".md", ".toml")]
    below = [path for folder in OURS for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [
        path
        for path in sorted(top + below)
        if "__pycache__" not in path.parts and path != Path(__file__)
    ]


def test_files_stay_readable() -> None:
    """A file aims at 400 lines; past 500 it has two subjects."""
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in SOURCES}
    assert {} == {path: length for path, length in lengths.items() if length > FILE_LINES_MAX}


def test_functions_stay_readable() -> None:
    """A function aims at 40 lines; past 70 it is a file of its own."""
    too_long = [
        f"{path}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert [] == too_long


def test_no_module_belongs_to_no_one() -> None:
    nobodys = {"utils", "util", "helpers", "common", "base", "manager", "misc"}
    assert [] == [str(path) for path in SOURCES if nobodys & {*path.parent.parts, path.stem}]


def test_a_room_says_what_it_is_for_and_nothing_else() -> None:
    """So that importing `agent.plan` never loads Docker; the package itself adds its version."""
    wrong = []
    for path in sorted(PACKAGE.rglob("__init__.py")):
        module = ast.parse(path.read_text())
        statements = 2 if path.parent == PACKAGE else 1
        if ast.get_docstring(module) is None or len(module.body) != statements:
            wrong.append(str(path.relative_to(ROOT)))
    assert [] == wrong


def test_every_room_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    missing = [folder for folder in folders if not (folder / "__init__.py").exists()]
    assert [] == sorted(str(folder.relative_to(ROOT)) for folder in missing)


def test_tests_have_one_name_each() -> None:
    """pytest collects by path, so folders of tests need no `__init__.py`."""
    assert [] == [str(path) for path in SOURCES if path.match("tests/**/__init__.py")]


@pytest.mark.slow
def test_imports_point_down() -> None:
    linter = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(linter, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("room", ["raft", "store", "control", "compose", "agent.plan", "sim"])
def test_deciding_loads_nothing_that_acts(room: str) -> None:
    """The linter reads import lines; this sees what really gets loaded."""
    folder = PACKAGE / room.split(".")[0]
    modules = (
        [f"meshswarm.{room}"]
        if "." in room
        else sorted(f"meshswarm.{room}.{path.stem}" for path in folder.glob("[!_]*.py"))
    )
    script = (
        f"import sys, importlib; [importlib.import_module(name) for name in {modules}]; "
        "print(*sorted({'zmq', 'docker', 'asyncio', 'logging', 'subprocess'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ("", 0) == (done.stdout.strip() + done.stderr, done.returncode)


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        (
            "a package registry or a download address",
            r"https?://[^\s\"']+\.(whl|tgz|tar\.gz|deb)\b",
        ),
        ("a package registry", r"(index|registry)[-_]url|files\.\w+hosted\."),
        ("a path of somebody's machine", r"(?<![\w.~])/(root|Users|home/\w+)/\w"),
        ("a `type: ignore` without its code", r"# type: ignore(?!\[)"),
        ("a `noqa` without its rule", r"# noqa(?!: [A-Z]+\d)"),
        ("a task that nobody waits for", r"loop\.create_task"),
    ],
)
def test_the_tree_does_not_hold(what: str, pattern: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in texts()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if re.search(pattern, line)
    ]
    assert [] == found, what


def test_pins_name_versions_and_nothing_else() -> None:
    lines = (ROOT / "tools" / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [] == [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
