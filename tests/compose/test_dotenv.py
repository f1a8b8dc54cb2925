import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshswarm.compose import dotenv
from meshswarm.compose.interpolate import Budget, Variables
from meshswarm.compose.report import Report
from meshswarm.errors import Invalid

OUTER = {"HOST": "host"}


def parsed(text: str | bytes, *, raw: bool = False) -> dict[str, str]:
    report = Report("compose.yml")
    data = text if isinstance(text, bytes) else text.encode()
    outer = Variables(OUTER, Budget())
    if raw:
        found = dotenv.parse_raw(data, report, file=".env", outer=outer)
    else:
        found = dotenv.parse(data, report, file=".env", outer=outer, before={"OLD": "old"})
    report.raise_faults()
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("# c\n\n  # d\nA=1", {"A": "1"}),
        ("A= x y ", {"A": "x y"}),
        ("A=x #c", {"A": "x"}),
        ("A=x#c", {"A": "x#c"}),
        ("A= #c", {"A": "#c"}),
        ("A: b: c", {"A": "b: c"}),
        ("A==1", {"A": "=1"}),
        ("export  A = 1", {"A": "1"}),
        ("A[0].b-c=1", {"A[0].b-c": "1"}),
        ("A='x\\'y' # c", {"A": "x'y"}),
        ("A='$HOST\\n'", {"A": "$HOST\\n"}),
        ('A="x\\"y\\\\z\\n"', {"A": 'x"y\\z\n'}),
        ('A="x\ny"\nB=1', {"A": "x\ny", "B": "1"}),
        ('A="a\\$B $HOST ${U:-d}"', {"A": "a$B host d"}),
        ('A="\\z"', {"A": "\\z"}),
        ("A=a\\nb", {"A": "a\\nb"}),
        ("A=1\nB=${A}2\nA=3", {"A": "3", "B": "12"}),
        ("HOST=2\nB=$HOST", {"HOST": "2", "B": "host"}),
        ("B=$OLD", {"B": "old"}),
        ("HOST\nU\nA=1", {"HOST": "host", "A": "1"}),
        ("HOST", {"HOST": "host"}),
        ('A=""', {"A": ""}),
    ],
)
def test_grammar(text: str, found: dict[str, str]) -> None:
    assert found == parsed(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("A=1\nA B=1", ".env:2: the name `A B` holds ' '; letters, digits and _.-[] may be used"),
        ("=1", ".env:1: a name must stand before the `=`"),
        ("\n\nA='x", ".env:3: a value opens with ' and is never closed"),
        ('A="x" y=1', ".env:1: `y=1` stands behind the closing quote; quote the whole value"),
        ("A=${B", ".env:1: `${B` names no variable; write `$$` for a dollar sign"),
        ("A=${U:?say}", ".env:1: needs the variable U: say"),
        ("A=1\nB=\0", ".env:2: not a text: holds a NUL"),
        (b"A=1\nB=\xff", ".env:2: not a UTF-8 text: byte 0xff cannot be read"),
        (b"#" * (1 << 20) + b"#", ".env: has 1048577 bytes; at most 1048576 are read"),
    ],
)
def test_faults_have_the_file_and_line(text: str | bytes, fault: str) -> None:
    with pytest.raises(Invalid) as told:
        parsed(text)
    assert (fault,) == told.value.details


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(Invalid) as told:
        parsed("A B=1\nC=1\n!=2\n")
    assert [detail.split(":")[1] for detail in told.value.details] == ["1", "3"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A=1 # c", {"A": "1 # c"}),
        ('A="x"', {"A": '"x"'}),
        ("  # c\n\nHOST\nU", {"HOST": "host"}),
        (" A= $HOST ", {"A": " $HOST "}),
    ],
)
def test_raw_values_are_taken_as_they_stand(text: str, found: dict[str, str]) -> None:
    assert found == parsed(text, raw=True)


def test_raw_names_are_checked() -> None:
    with pytest.raises(Invalid):
        parsed("export A=1", raw=True)


def test_lines_cannot_multiply_each_other_without_end() -> None:
    doubling = "A0=xxxxxxxx\n" + "".join(f"A{i + 1}=$A{i}$A{i}\n" for i in range(60))
    with pytest.raises(Invalid, match="add up to more than"):
        parsed(doubling)


@given(
    st.text(alphabet=st.sampled_from("AB=:'\"\\$#{} \n\t\r-exportn"), max_size=60), st.booleans()
)
def test_it_only_ever_raises_invalid(text: str, raw: bool) -> None:
    with contextlib.suppress(Invalid):
        parsed(text, raw=raw)
