import pytest

from meshswarm.compose import scalars


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("22:22", "22:22"),
        ("1:30", "1:30"),
        ("tRue", "tRue"),
        ("nUll", "nUll"),
        ("1e", "1e"),
        ("0x", "0x"),
        ("_1", "_1"),
        ("1.2.3", "1.2.3"),
        ("2001-02-30", "2001-02-30"),
        ("2001-01-02T03:04:05", "2001-01-02T03:04:05"),
        ("true", True),
        ("FALSE", False),
        ("", None),
        ("~", None),
        ("0440", 0o440),
        ("0o440", 0o440),
        ("0_7", 7),
        ("0x1F", 31),
        ("-0b11", -3),
        ("1_000", 1000),
        ("+12", 12),
        ("08", 8.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 2.0**64),
        ("-9223372036854775808", -(2**63)),
        ("9" * 400, "9" * 400),
    ],
)
def test_plain_scalars_are_read_as_compose_reads_them(written: str, read: scalars.Value) -> None:
    value = scalars.resolve(written)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("3.10", "3.1"),
        ("1e3", "1000"),
        ("1e6", "1e+06"),
        ("999999.5", "999999.5"),
        ("1234567.5", "1.2345675e+06"),
        ("0.0001", "0.0001"),
        ("0.00001234", "1.234e-05"),
        ("-0", "-0"),
        ("-1.5", "-1.5"),
        (".inf", "+Inf"),
        ("-.inf", "-Inf"),
        (".nan", "NaN"),
        ("TRUE", "true"),
        ("~", ""),
        ("2001-1-2", "2001-01-02 00:00:00 +0000 UTC"),
        ("2001-01-02 03:04:05", "2001-01-02 03:04:05 +0000 UTC"),
        ("2001-01-02T03:04:05.120Z", "2001-01-02 03:04:05.12 +0000 UTC"),
        ("2001-01-02T03:04:05+01:00", "2001-01-02 03:04:05 +0100 +0100"),
    ],
)
def test_values_become_texts_as_go_prints_them(written: str, text: str) -> None:
    assert text == scalars.stringified(scalars.resolve(written))
