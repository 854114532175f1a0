"""What a worker is told at its start and at each reload, as one value. Knows nothing else; the channel carries it."""

from __future__ import annotations

from dataclasses import dataclass

from inboundmx.model.settings import Settings
from inboundmx.smtp.tls import Pem


@dataclass(frozen=True, slots=True)
class Orders:
    """``number`` is the worker's, of ``workers`` in all, counted from 0; ``supervisor`` the process that asks for the
    operator. ``settings`` are the whole gateway's; ``pem`` is its certificate with the key. ``listen`` names an
    endpoint for each listening socket that comes with it. ``guilty``: mail that is not to be tried any more, for each
    time it was in hand the worker died."""

    number: int
    workers: int
    supervisor: int
    settings: Settings
    pem: Pem | None
    listen: tuple[str, ...]
    guilty: frozenset[str]
