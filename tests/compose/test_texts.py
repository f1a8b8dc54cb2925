from collections.abc import Callable

import pytest

from meshswarm.compose import ports, texts
from meshswarm.compose.report import Unfit
from meshswarm.model.network import Port, Protocol


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("5.s", 5.0),
        ("250ms", 0.25),
        ("1us", 1e-6),
        ("1µs", 1e-6),
        ("1w1d1h", 694800.0),
        ("1h1d", 90000.0),
        ("+5s", 5.0),
        ("0", 0.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds == pytest.approx(texts.duration(text))


@pytest.mark.parametrize(
    "text", ["", "10", "s", "-1s", "1 s", "1h 5s", "1D", "1M", "5s!", "99999w"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Unfit):
        texts.duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10", 10),
        ("10b", 10),
        ("10kb", 10240),
        ("10KiB", 10240),
        ("1.5 GB", 1610612736),
        (".5m", 524288),
        ("1e3", 1000),
        ("1e2k", 102400),
        ("1.7", 1),
        ("1p", 2**50),
        ("+1k", 1024),
        ("0", 0),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert size == texts.size(text)


@pytest.mark.parametrize(
    "text", ["", "m", "-1", "1x", "10mi", "10ib", "1bb", "10  m", " 1m", "9999p"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Unfit):
        texts.size(text)


@pytest.mark.parametrize(
    ("text", "number", "percent"),
    [("0", 0, None), ("12", 12, None), ("0%", None, 0), ("25%", None, 25)],
)
def test_how_many_may_be_missing(text: str, number: int | None, percent: int | None) -> None:
    assert (number, percent) == texts.most_missing(text)


@pytest.mark.parametrize("text", ["", "%", "-1", "101%", "2.5%", "25 %", "a", "1000001", "1e3"])
def test_what_is_no_number_that_may_be_missing(text: str) -> None:
    with pytest.raises(Unfit, match="no share from 0% to 100%"):
        texts.most_missing(text)


@pytest.mark.parametrize(
    ("text", "nano"), [("0.5", 500_000_000), (".25", 250_000_000), ("2", 2 * 10**9)]
)
def test_cpus(text: str, nano: int) -> None:
    assert nano == texts.cpus(text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ()),
        ("  a  b\t c\n", ("a", "b", "c")),
        ("echo 'a b' \"c d\"", ("echo", "a b", "c d")),
        ("a\"b'c\"d'e\"f'", ("ab'cde\"f",)),
        (r"a\ b", ("a b",)),
        (r'"f\g" "\""', ("fg", '"')),
        (r"'f\g'", (r"f\g",)),
        ("a '' b", ("a", "", "b")),
        ("a # b", ("a", "#", "b")),
        (r"a \| b", ("a", "|", "b")),
        ("sh -c 'a | b; echo `x` $(y)'", ("sh", "-c", "a | b; echo `x` $(y)")),
        ("a {b,c} * ?", ("a", "{b,c}", "*", "?")),
    ],
)
def test_words_of_a_command_line(line: str, words: tuple[str, ...]) -> None:
    assert words == texts.words(line)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 'b", "the closing ' is missing"),
        ("a \\", "ends with a backslash that escapes nothing"),
        ("a | b", "`|` needs a shell: write [sh, -c, '...'], or quote it if it is text"),
        ("a `b`", "``` needs a shell: write [sh, -c, '...'], or quote it if it is text"),
        ("a > b", "`>` needs a shell: write [sh, -c, '...'], or quote it if it is text"),
    ],
)
def test_what_is_no_command_line(line: str, message: str) -> None:
    with pytest.raises(Unfit) as fault:
        texts.words(line)
    assert message == str(fault.value)


@pytest.mark.parametrize(
    ("text", "constraint"),
    [
        ("node.role == manager", "node.role==manager"),
        ("Node.Labels.Zone!=a b", "node.labels.Zone!=a b"),
        ("ENGINE.LABELS.x.y== Z ", "engine.labels.x.y==Z"),
        ("node.platform.OS==linux", "node.platform.os==linux"),
        ("node.ip == 10.1.2.3", "node.ip==10.1.2.3"),
        ("Node.IP != 10.1.2.3/8", "node.ip!=10.0.0.0/8"),
        ("node.ip==FD00:0::1", "node.ip==fd00::1"),
        ("node.ip==fd00::1/8", "node.ip==fd00::/8"),
    ],
)
def test_constraints(text: str, constraint: str) -> None:
    assert constraint == str(texts.constraint(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "node.role",
        "node.role = manager",
        "node.role ==",
        "node.labels.==x",
        "rack==1",
        "node.id==ä",
        "node.ip==n1",
        "node.ip==10.0.0.300",
        "node.ip==10.0.0.0/33",
        "node.ip==",
    ],
)
def test_what_is_no_constraint(text: str) -> None:
    with pytest.raises(Unfit):
        texts.constraint(text)


def test_an_unknown_constraint_key_names_those_that_there_are() -> None:
    with pytest.raises(
        Unfit, match=r"no constraint on `node\.rack`, only on node\.id, .*engine\.labels"
    ):
        texts.constraint("node.rack == 1")


@pytest.mark.parametrize("text", ["SIGTERM", "term", "15", "SIGRTMIN+3", "RTMAX-1"])
def test_signals(text: str) -> None:
    assert text == texts.signal(text)


@pytest.mark.parametrize("text", ["", "0", "65", "SIGFOO", "SIG", "RTMIN-1"])
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(Unfit):
        texts.signal(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", (Port(target=80),)),
        ("8080:80", (Port(target=80, published=8080),)),
        ("0:80", (Port(target=80),)),
        (":80", (Port(target=80),)),
        ("::80", (Port(target=80),)),
        ("1.2.3.4::80", (Port(target=80, host_ip="1.2.3.4"),)),
        (
            "127.0.0.1:53:53/UDP",
            (Port(target=53, published=53, protocol=Protocol.UDP, host_ip="127.0.0.1"),),
        ),
        ("[::1]:80:80", (Port(target=80, published=80, host_ip="::1"),)),
        ("::1:80:80", (Port(target=80, published=80, host_ip="::1"),)),
        ("80-81", (Port(target=80), Port(target=81))),
        (
            "90-91:80-81/sctp",
            tuple(Port(target=80 + i, published=90 + i, protocol=Protocol.SCTP) for i in (0, 1)),
        ),
    ],
)
def test_short_ports(text: str, expected: tuple[Port, ...]) -> None:
    assert expected == ports.short(text)


@pytest.mark.parametrize(
    "text",
    ["", "80:", "80:0", "a", "80:80/x", "80:81-82", "80-81:81", "82-80", "70000:80",
     "localhost:80:80", " 80", "1-2000:1-2000", "80-", "-80", "80/tcp/x", "１:１"],
)  # fmt: skip
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(Unfit):
        ports.short(text)


@pytest.mark.parametrize(
    "parse", [texts.duration, texts.size, texts.cpus, texts.constraint, texts.signal]
)
def test_long_nonsense_is_not_repeated_in_full(parse: Callable[[str], object]) -> None:
    with pytest.raises(Unfit) as fault:
        parse("@" * 10_000)
    assert len(str(fault.value)) < 300
