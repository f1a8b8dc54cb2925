"""A row of the attribute table: one Compose attribute, and how far it is supported."""

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from meshswarm.compose.cursor import Shape


class Support(Enum):
    """What becomes of an attribute."""

    APPLIED = "applied"
    IGNORED = "ignored"
    """Has no effect; a warning says so."""
    LATER = "later"
    """A fault now; a later release applies it."""
    REFUSED = "refused"
    """A fault, and it will stay one."""


@frozen(kw_only=True)
class Attribute:
    """One attribute: where it stands, what it looks like, and what to know about it.

    `path` has `*` for each name and each index: `services.*.ports.*.target`.
    """

    path: str
    support: Support
    shape: "Shape | None" = None
    """Reads its value; set exactly if it is applied."""
    summary: str = ""
    """What it is for; one line of the reference."""
    hint: str = ""
    """Why it is not applied, and what to do instead."""
    nullable: bool = False
    """Whether a key without a value is the same as no key."""
    not_in_process: str = ""
    """Why a service of the process runtime cannot have it; empty if it can."""

    @property
    def key(self) -> str:
        """Its own name: the last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def refusal(self) -> str:
        """The fault that using it is, unless it is applied."""
        when = "not supported yet" if self.support is Support.LATER else "not supported"
        return f"{when}: {self.hint}"


Table = Mapping[str, Attribute]
"""All attributes, by their paths."""
