"""The one error tree, split by who must act.

MeshswarmError
├── Invalid         the caller: the input is wrong                      (exit 3)
├── Denied          the caller: this identity may not do that           (exit 4)
├── NotFound        the caller: no such object                          (exit 5)
├── Conflict        the caller: the object moved on, or already exists  (exit 6)
│   └── SessionExpired   the client's requests are forgotten, so this one was not carried out
├── Unavailable     wait: no leader, no quorum, unreachable, busy       (exit 7)
│   ├── OutcomeUnknown   the request may or may not have been carried out; ask before repeating it
│   └── KeyRefused       that node does not know our key; another one may
├── WaitTimedOut    the caller: what was waited for did not come in time (exit 8)
├── RolledBack      the caller: what was deployed failed and was taken back (exit 9)
└── Corrupt         the operator: stored bytes are damaged or foreign   (exit 1)

An error says what, where, and the command that helps. Libraries' errors are translated where the
library is called, with `from`. Errors cross the mesh by their `code` (see `to_wire`, `from_wire`).
"""

from collections.abc import Sequence
from typing import ClassVar


class MeshswarmError(Exception):
    """Whatever this program reports to its user; every subclass says who must act.

    `where` is a place a person can go to (`compose.yml:14, services.web`), `hint` a sentence with
    the exact command, `details` further lines (one fault each).
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        details: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.details = tuple(details)

    def __str__(self) -> str:
        """The error as plain text: what, where, details, hint, a line each."""
        lines = [self.message]
        lines += [f"  {detail}" for detail in self.details]
        if self.where:
            lines.append(f"  at: {self.where}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class Invalid(MeshswarmError):
    """The input is wrong; nothing was changed."""

    code = "invalid"
    exit_code = 3


class Denied(MeshswarmError):
    """This identity may not do that."""

    code = "denied"
    exit_code = 4


class NotFound(MeshswarmError):
    """No object has that name or id."""

    code = "not_found"
    exit_code = 5


class Conflict(MeshswarmError):
    """The object changed since it was read, or the name is taken."""

    code = "conflict"
    exit_code = 6


class SessionExpired(Conflict):
    """The cluster forgot the client's session: a repeated request could be carried out twice."""

    code = "session_expired"


class Unavailable(MeshswarmError):
    """No leader, no quorum, or nobody answered: nothing was done, trying later may help."""

    code = "unavailable"
    exit_code = 7


class OutcomeUnknown(Unavailable):
    """The request was sent and no answer came: it may or may not have been carried out."""

    code = "outcome_unknown"


class KeyRefused(Unavailable):
    """That node does not know our key, or no longer: nothing was done."""

    code = "key_refused"


class WaitTimedOut(MeshswarmError):
    """The awaited state did not come in time; what was asked for still stands."""

    code = "timeout"
    exit_code = 8


class RolledBack(MeshswarmError):
    """What was asked for failed, and the service went back to what ran before."""

    code = "rolled_back"
    exit_code = 9


class Corrupt(MeshswarmError):
    """Stored bytes are damaged, or belong to another cluster; an operator must look."""

    code = "corrupt"


_BY_CODE: dict[str, type[MeshswarmError]] = {
    cls.code: cls
    for cls in (
        MeshswarmError,
        Invalid,
        Denied,
        NotFound,
        Conflict,
        SessionExpired,
        Unavailable,
        OutcomeUnknown,
        KeyRefused,
        WaitTimedOut,
        RolledBack,
        Corrupt,
    )
}


def to_wire(error: MeshswarmError) -> list[object]:
    """`error` as plain CBOR-able values: [code, message, where, hint, details]."""
    return [error.code, error.message, error.where, error.hint, list(error.details)]


def from_wire(value: object) -> MeshswarmError:
    """The error that `to_wire` described; an unreadable one is told as a `MeshswarmError`."""
    match value:
        case [str() as code, str() as message, where, hint, [*details]]:
            return _BY_CODE.get(code, MeshswarmError)(
                message,
                where=where if isinstance(where, str) else None,
                hint=hint if isinstance(hint, str) else None,
                details=[str(detail) for detail in details],
            )
        case _:
            return MeshswarmError(f"the peer answered with an unreadable error: {value!r:.200}")
