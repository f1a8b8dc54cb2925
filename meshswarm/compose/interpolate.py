"""Variables in values: `$$ $X ${X}` and `:- - :? ? :+ +`, nested, as Compose replaces them."""

import re
from collections.abc import Mapping

from meshswarm.compose.report import Unfit

MAX_NESTING = 20
"""Braces within braces; more are refused."""

MAX_CHARACTERS = 8 * 1024 * 1024
"""Replaced text of one deploy in total; more is refused, or variables could multiply each other."""

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")


class Budget:
    """How much text the variables of one deploy may still become."""

    def __init__(self) -> None:
        self._left = MAX_CHARACTERS

    def spend(self, characters: int) -> None:
        """Take from it; raises `Unfit` when nothing is left."""
        self._left -= characters
        if self._left < 0:
            raise Unfit(f"variables add up to more than {MAX_CHARACTERS} characters")


class Variables:
    """Names and their values, and which unset ones were used."""

    def __init__(self, values: Mapping[str, str], budget: Budget) -> None:
        self.values = values
        self.budget = budget
        self._unset: dict[str, None] = {}

    def get(self, name: str) -> str | None:
        """The variable's value; raises `Unfit` if it is no text that a container could take."""
        value = self.values.get(name)
        if value is not None and not is_clean(value):
            raise Unfit(f"the value of the variable {name} is not a UTF-8 text")
        return value

    def expand(self, template: str) -> str:
        """`template` with its variables replaced; an unset one becomes the empty text.

        Raises `Unfit` for a malformed `${`, a missing required variable, or too much text.
        """
        return self._expand(template, 0)

    def take_unset(self) -> tuple[str, ...]:
        """The unset variables that were used since the last call."""
        taken, self._unset = tuple(self._unset), {}
        return taken

    def _expand(self, template: str, nesting: int) -> str:
        if nesting > MAX_NESTING:
            raise Unfit(f"variables are nested more than {MAX_NESTING} levels deep")
        parts: list[str] = []
        done = 0
        while (dollar := template.find("$", done)) >= 0:
            parts.append(template[done:dollar])
            if template.startswith("$$", dollar):
                parts.append("$")
                done = dollar + 2
            elif template.startswith("${", dollar):
                done = _closing_brace(template, dollar) + 1
                parts.append(self._braced(template[dollar + 2 : done - 1], nesting))
            elif name := _NAME.match(template, dollar + 1):
                parts.append(self._value(name[0]))
                done = name.end()
            else:
                parts.append("$")
                done = dollar + 1
        parts.append(template[done:])
        return self._counted("".join(parts))

    def _braced(self, body: str, nesting: int) -> str:
        """What stands for `${body}`."""
        name = _NAME.match(body)
        operator = re.compile(r":?[-?+]|\Z").match(body, name.end()) if name else None
        if name is None or operator is None:
            raise _malformed(body + "}")
        value, rest = self.get(name[0]), body[operator.end() :]
        is_given = value is not None and (value != "" or not operator[0].startswith(":"))
        match operator[0][-1:]:
            case "-":
                return self._value(name[0]) if is_given else self._expand(rest, nesting + 1)
            case "+":
                return self._expand(rest, nesting + 1) if is_given else ""
            case "?" if not is_given:
                why = self._expand(rest, nesting + 1)
                raise Unfit(f"needs the variable {name[0]}" + (f": {why}" if why else ""))
            case _:
                return self._value(name[0])

    def _value(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            self._unset[name] = None
        return self._counted(value or "")

    def _counted(self, text: str) -> str:
        self.budget.spend(len(text))
        return text


def _closing_brace(template: str, dollar: int) -> int:
    """Where the brace that opens behind `dollar` closes; inner braces come in pairs."""
    level = 0
    for found in re.compile("[{}]").finditer(template, dollar):
        level += 1 if found[0] == "{" else -1
        if level == 0:
            return found.start()
    raise _malformed(template[dollar + 2 :])


def _malformed(body: str) -> Unfit:
    shown = "${" + (body if len(body) <= 40 else body[:40] + "…")
    return Unfit(f"`{shown}` names no variable; write `$$` for a dollar sign")


def is_clean(value: str) -> bool:
    """Whether a process can be given `value`: no NUL, and encodable."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
