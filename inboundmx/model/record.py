"""How the values are made that every message takes dozens of: frozen for whoever writes and checks the code.

Knows what a frozen dataclass costs. Does not know what any value is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["record"]

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
