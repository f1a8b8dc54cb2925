import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshswarm.compose import source
from meshswarm.compose.report import Report
from meshswarm.errors import Invalid


def plain(node: source.Node | None) -> object:
    """The tree without its lines."""
    match node:
        case source.Scalar(value=value):
            return value
        case source.Sequence(items=items):
            return [plain(item) for item in items]
        case source.Mapping(entries=entries):
            return {entry.key: plain(entry.value) for entry in entries}
        case None:
            return "nothing"


def parsed(text: str | bytes) -> object:
    report = Report("c.yml")
    node = source.parse(text if isinstance(text, bytes) else text.encode(), report)
    report.raise_faults()
    return plain(node)


def faults(text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(Invalid) as told:
        parsed(text)
    return told.value.details


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            "a: 22:22\nb: yes\nc: 0440\nd: '5'\ne:",
            {"a": "22:22", "b": "yes", "c": 288, "d": "5", "e": None},
        ),
        ("---\na: 1\n", {"a": 1}),
        ("\ufeffa: 1\n", {"a": 1}),
        ("%YAML 1.1\n---\na: yes\nb: 010", {"a": "yes", "b": 8}),
        ("a: !!str 010\nb: !!int '5'\nc: ! 5", {"a": "010", "b": 5, "c": "5"}),
        ("a: |\n  x\n  y\nb: >-\n  x\n  y\n", {"a": "x\ny\n", "b": "x y"}),
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}", {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}),
        ("y: {<<: [{a: 1}, {a: 2, b: 2}]}", {"y": {"a": 1, "b": 2}}),
        ("a: &a 1\nb: &a 2\nc: *a", {"a": 1, "b": 2, "c": 2}),
        ("yes: 1\n<<: {on: 2}", {"on": 2, "yes": 1}),
    ],
)
def test_what_texts_mean(text: str, value: object) -> None:
    assert value == parsed(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "c.yml: is empty"),
        ("# nothing\n", "c.yml: is empty"),
        ("a: 1\nb: 2\na: 3", "c.yml:3: the key `a` is there already, in line 1"),
        ("<<: {}\n<<: {}", "c.yml:2: the key `<<` is there already, in line 1"),
        ("<<: 3", "c.yml:1: `<<` merges a mapping, or a list of them"),
        ("a: 1\n5: 2", "c.yml:2: a key must be a text, not the number 5; quote it"),
        ("[a]: 2", "c.yml:1: a key must be a text, not a list or mapping; quote it"),
        ("a: 1\n---\nb: 2", "c.yml:2: a second document starts; one file is one stack"),
        ("a: *x", "c.yml:1: `*x` repeats an anchor that is not there"),
        ("a: &x [*x]", "c.yml:1: `*x` stands inside of what it repeats"),
        ("a:\n  b: !reset []", "c.yml:2: `!reset` changes another file, and only one is read yet"),
        ("a: !foo 1", "c.yml:1: the tag `!foo` has no meaning here"),
        ("a: !!set {x}", "c.yml:1: the tag `!!set` has no meaning here"),
        ("a: !!int x", "c.yml:1: `x` is no int"),
        ('a: "\\0"', "c.yml:1: holds a character that no program can take (NUL, or half of one)"),
        (
            'a: "\\ud800"',
            "c.yml:1: holds a character that no program can take (NUL, or half of one)",
        ),
        ("a: 1\n\tb: 2", "c.yml:2: not YAML: found character '\\t' that cannot start any token"),
        (b"a: 1\nb: \xff\n", "c.yml:2: not a UTF-8 text: byte 0xff cannot be read"),
    ],
)
def test_faults_have_their_line(text: str | bytes, fault: str) -> None:
    assert [fault] == [
        detail.replace("while scanning for the next token: ", "") for detail in faults(text)
    ]


def test_size_is_bounded() -> None:
    assert ("c.yml: has 1048577 bytes; at most 1048576 are read",) == faults(
        b" " * (1 << 20) + b" "
    )


def test_depth_is_bounded() -> None:
    assert ("c.yml:1: nested more than 40 levels deep",) == faults("[" * 100_000)


def test_an_alias_bomb_is_refused_before_it_unfolds() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    (fault,) = faults("\n".join(lines))
    assert "more than 100000 values, counting what aliases repeat" in fault


def test_a_merge_bomb_is_refused() -> None:
    lines = ["a0: &a0 {k: " + "x" * 1000 + "}"]
    lines += [f"a{i}: &a{i} {{<<: *a{i - 1}, x: *a{i - 1}, y: *a{i - 1}}}" for i in range(1, 35)]
    (fault,) = faults("\n".join(lines))
    assert "more than 100000 values" in fault


@given(st.binary(max_size=200))
def test_any_bytes_only_ever_raise_invalid(data: bytes) -> None:
    with contextlib.suppress(Invalid):
        parsed(data)


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!<>|?%@'\"\\#,.0\n\t ~u\ufeff"), max_size=60))
def test_any_yaml_like_text_only_ever_raises_invalid(text: str) -> None:
    with contextlib.suppress(Invalid):
        parsed(text)
