"""Options that say several things at once, as Docker has them: `type=volume,target=/data,readonly`.

Pure; what cannot be meant raises `Unfit` with a sentence.
"""

import csv
from collections.abc import Collection, Mapping, Sequence

from attrs import frozen

from meshswarm.compose.report import Unfit

_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_YES, _NO = ("", "true", "1"), ("false", "0")


@frozen
class Fields:
    """What one such text says, by keys in small letters."""

    text: str
    values: Mapping[str, Sequence[str]]

    def get(self, key: str, default: str = "") -> str:
        """The value of the key."""
        return self.values[key][0] if key in self.values else default

    def needed(self, key: str) -> str:
        """The value of a key that must be there, and not be empty."""
        value = self.get(key)
        if not value:
            raise Unfit(f"`{self.text:.80}` needs {key}=...")
        return value

    def flag(self, key: str) -> bool:
        """Whether the key stands there alone, or is true."""
        value = self.get(key, "false").lower()
        if value not in (*_YES, *_NO):
            raise Unfit(f"{key}={value:.40} is neither true nor false")
        return value in _YES

    def octal(self, key: str, most: int) -> int | None:
        """Permission bits; None if the key is not there."""
        if key not in self.values:
            return None
        try:
            bits = int(self.get(key), 8)
        except ValueError:
            bits = -1
        if not 0 <= bits <= most:
            raise Unfit(f"{key}={self.get(key):.40} is no permission bits such as 0440")
        return bits

    def whole(self, key: str, most: int) -> int | None:
        """A number from 0; None if the key is not there."""
        if key not in self.values:
            return None
        text = self.get(key)
        if not (text.isascii() and text.isdigit()) or int(text[:12]) > most:
            raise Unfit(f"{key}={text:.40} is no number from 0 to {most}")
        return int(text)

    def pairs(self, key: str) -> dict[str, str]:
        """The values of a key that may stand there several times, each `NAME=VALUE`."""
        parts = (value.partition("=") for value in self.values.get(key, ()))
        return {name: value for name, _, value in parts}


def fields(text: str, known: Collection[str], *, several: Collection[str] = ()) -> Fields:
    """What the text says; each key at most once, but for those in `several`."""
    found: dict[str, list[str]] = {}
    for part in next(csv.reader([text.replace("\n", " ")]), []):
        word, _, value = part.partition("=")
        key = _ALIASES.get(word.strip().lower(), word.strip().lower())
        if key not in known:
            raise Unfit(f"there is no `{word:.40}`, only {', '.join(known)}")
        if key in found and key not in several:
            raise Unfit(f"says {key} twice")
        found.setdefault(key, []).append(value)
    return Fields(text, found)
