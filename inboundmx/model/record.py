"""How the values are made that every message takes dozens of: frozen for whoever writes and checks the code.

Knows what a frozen dataclass costs, and a changed copy of one. Does not know what any value is.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["record", "replace"]

T = TypeVar("T")


def replace(value: T, **changes: Any) -> T:
    """As ``dataclasses.replace``, of a dataclass with two fields or more: an entry in 2.5 us instead of 9."""
    kind: Any = type(value)
    values_of, places = _fields(kind)
    values = [*values_of(value)]
    for name, changed in changes.items():
        values[places[name]] = changed
    copy: T = kind(*values)
    return copy


@lru_cache(maxsize=64)
def _fields(kind: Any) -> tuple[attrgetter[tuple[Any, ...]], dict[str, int]]:
    names = [each.name for each in dataclasses.fields(kind)]
    return attrgetter(*names), {name: place for place, name in enumerate(names)}

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:
    from dataclasses import dataclass

    def record(*, frozen: bool, slots: bool):
        """As ``dataclasses.dataclass``. That a frozen one is not altered mypy sees to, line by line. To have the
        interpreter see to it as well, a dataclass fills each field of each value by a function call: 6 % of all that a
        message costs in Python."""

        def make(cls):
            return dataclass(cls, slots=slots, unsafe_hash=frozen and "__hash__" not in cls.__dict__)

        return make
