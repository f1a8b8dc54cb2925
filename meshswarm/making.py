"""Frozen values made by the hundred thousand, in a quarter of the time.

`__init__` of a frozen attrs class goes round the class's own `__setattr__`, which refuses, once for
each attribute; that is most of what a small value costs. Here a twin that is not frozen, of the
same layout, is filled in and then becomes a value of the class. Pure.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

T = TypeVar("T")


def maker(cls: type[T]) -> Callable[..., T]:
    """A function that makes a `cls` of the values of all its attributes, by position.

    For slotted classes without `weakref_slot` (with one, CPython takes the twin's layout for
    another) whose attributes have neither converters nor validators; no default is filled in.
    """
    fields = attrs.fields(cls)  # type: ignore[arg-type]  # says itself what is no attrs class
    assert not any(one.converter or one.validator for one in fields), f"{cls} looks at its values"
    names = [one.name for one in fields]
    twin = type(f"Fresh{cls.__name__}", (), {"__slots__": tuple(names)})
    lines = [
        f"def make({', '.join(names)}):",
        "    value = twin()",
        *(f"    value.{name} = {name}" for name in names),
        "    value.__class__ = cls",
        "    return value",
    ]
    made: dict[str, Any] = {}
    exec("\n".join(lines), {"twin": twin, "cls": cls}, made)
    return made["make"]  # type: ignore[no-any-return]
