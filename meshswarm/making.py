"""Frozen values made by the hundred thousand, in a third of the time.

`__init__` of a frozen attrs class goes round the class's own `__setattr__`, which refuses, once for
each attribute; that is most of what a small value costs. Here a twin that is not frozen, of the
same layout, is filled in and then becomes a value of the class. Pure.
"""

from collections.abc import Callable
from typing import TypeVar

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
    twin = attrs.make_class(
        f"Fresh{cls.__name__}", names, eq=False, repr=False, slots=True, weakref_slot=False
    )

    def make(*values: object) -> T:
        value = twin(*values)
        value.__class__ = cls
        return value  # type: ignore[no-any-return]  # it is one now

    return make
