"""The order in which services start: none may wait, in the end, for itself."""

from collections.abc import Iterable

from meshswarm.errors import Invalid
from meshswarm.store.view import View


def refuse_circle(view: View, names: Iterable[str]) -> None:
    """Raise `Invalid` if one of these services depends on itself, directly or by others."""
    done: set[str] = set()
    for name in names:
        circle = _circle(view, name, done)
        if circle is not None:
            raise Invalid(
                f"services wait for each other: {' -> '.join(circle)}",
                hint="take one out of `depends_on`",
            )


def _circle(view: View, start: str, done: set[str]) -> list[str] | None:
    """The names on a way from a service back to itself, if there is one; `done` have none.

    Depth first with a stack of its own: a chain may be longer than Python's.
    """
    if start in done:
        return None
    way = [start]
    left = [iter(_needs(view, start))]
    while way:
        following = next(left[-1], None)
        if following is None:
            done.add(way.pop())
            left.pop()
        elif following in way:
            return [*way[way.index(following) :], following]
        elif following not in done:
            way.append(following)
            left.append(iter(_needs(view, following)))
    return None


def _needs(view: View, name: str) -> list[str]:
    service = view.service_named(name)
    return [one.service for one in service.spec.depends_on] if service else []
