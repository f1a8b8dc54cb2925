"""How far services are, for people: a bar each on a terminal, lines without one. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from meshswarm.cli.waiting import SlotProgress

if TYPE_CHECKING:
    from rich.console import RenderableType

BAR_WIDTH = 24

SERVICES_MAX = 12
"""Bars that are drawn; those that are done give way first."""

TROUBLES_MAX = 6
"""Slots that are told below the bars, with what they say."""

STATES_MAX = 3
"""Kinds of states that stand behind a bar."""


@frozen(kw_only=True)
class ServiceProgress:
    """One service's slots, counted."""

    name: str
    done: int
    total: int
    states: tuple[tuple[str, int], ...]
    """Of the slots that are not done, the most frequent first."""
    phase: str = ""
    """Its rollout's, if that is waited for too."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is waited for."""
        return self.done == self.total and not self.phase

    def words(self) -> str:
        """What is left: `updating: 2 outdated, 1 starting`."""
        if self.is_done:
            return "done"
        told = [f"{number} {state}" for state, number in self.states[:STATES_MAX]]
        if len(self.states) > STATES_MAX:
            told.append("...")
        return ": ".join(part for part in (self.phase, ", ".join(told)) if part)

    def __str__(self) -> str:
        return f"{self.name}: {self.done} of {self.total} as wanted; {self.words()}"


def services_of(slots: Sequence[SlotProgress]) -> list[ServiceProgress]:
    """The services that the slots belong to, in order."""
    found = []
    for name in dict.fromkeys(slot.service for slot in slots):
        mine = [slot for slot in slots if slot.service == name and slot.name != name]
        whole = [slot for slot in slots if slot.name == name and not slot.is_done]
        states = Counter(slot.state.partition(",")[0] for slot in mine if not slot.is_done)
        found.append(
            ServiceProgress(
                name=name,
                done=sum(slot.is_done for slot in mine),
                total=len(mine),
                states=tuple(sorted(states.items(), key=lambda pair: (-pair[1], pair[0]))),
                phase=", ".join(slot.state for slot in whole),
            )
        )
    return found


def drawn(slots: Sequence[SlotProgress], passed_s: float) -> "RenderableType":
    """A bar for each service, then what keeps single slots, then the sum."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    services = services_of(slots)
    shown = sorted(services, key=lambda service: service.is_done)[:SERVICES_MAX]
    table = Table.grid(padding=(0, 2, 0, 0))
    for service in services:
        if service in shown:
            style = "green" if service.is_done else "yellow"
            bar = ProgressBar(
                total=max(1, service.total),
                completed=service.done if service.total else 1,
                width=BAR_WIDTH,
                complete_style=style,
                finished_style=style,
            )
            count = f"{service.done}/{service.total}"
            table.add_row(service.name, bar, Text(count, justify="right"), service.words())
    parts: list[RenderableType] = [table]
    if len(services) > len(shown):
        parts.append(Text(f"and {len(services) - len(shown)} more services", style="dim"))
    troubled = [slot for slot in slots if slot.why and not slot.is_done]
    parts += [Text(f"  {slot}", style="dim") for slot in troubled[:TROUBLES_MAX]]
    if len(troubled) > TROUBLES_MAX:
        parts.append(Text(f"  and {len(troubled) - TROUBLES_MAX} more", style="dim"))
    done = sum(service.done for service in services)
    total = sum(service.total for service in services)
    words = f"{done} of {total} as wanted after {passed_s:.0f} s; Ctrl-C leaves it to the cluster"
    return Group(*parts, Text(words, style="bold"))


class Lines:
    """What is to be said without a terminal: a line for each slot that changed.

    Of a service with more than `most` slots it is a line for each tenth of them that is done, and
    for each change of its rollout.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._shown: dict[str, str] = {}
        self._services: dict[str, str] = {}
        self._tenths: dict[str, tuple[int, str]] = {}

    def after(self, slots: Sequence[SlotProgress]) -> list[str]:
        """The lines that say what is new."""
        large = [service for service in services_of(slots) if service.total > self._most]
        names = {service.name for service in large}
        present = {
            slot.name: str(slot)
            for slot in slots
            if slot.service not in names or slot.name == slot.service
        }
        said = [line for name, line in present.items() if self._shown.get(name) != line]
        for service in large:
            tenth = (10 * service.done // service.total, service.phase)
            if self._tenths.get(service.name) != tenth:
                said.append(str(service))
                self._tenths[service.name] = tenth
        said += [
            f"{name} is gone"  # else it was told of the service as a whole, and no longer holds
            for name, service in self._services.items()
            if name not in present and name != service and service not in names
        ]
        self._services = {slot.name: slot.service for slot in slots if slot.name in present}
        self._shown = present
        return said
