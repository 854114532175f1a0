"""What a worker is told at its start and at each reload, and what goes with it. Knows nothing else; the channel carries
it."""

from __future__ import annotations

from dataclasses import dataclass

from inboundmx.model.settings import Settings
from inboundmx.smtp.tls import Pem


@dataclass(frozen=True, slots=True)
class Orders:
    """``number`` is the worker's, of ``workers`` in all, counted from 0; ``supervisor`` the process that asks for the
    operator. ``settings`` are the whole gateway's; ``pem`` are its certificates with their keys. ``listen`` names
    number and endpoint of each listening socket that comes with it. ``guilty``: mail that is not to be tried any more,
    for each time it was in hand the worker died."""

    number: int
    workers: int
    supervisor: int
    settings: Settings
    pem: tuple[Pem, ...]
    listen: tuple[tuple[int, str], ...]
    guilty: frozenset[str]


@dataclass(frozen=True, slots=True)
class Outfit:
    """What is the same for all workers. ``log`` is the log's descriptor, ``lock`` that of its lock, ``sockets`` are
    those of ``listen``."""

    settings: Settings
    pem: tuple[Pem, ...]
    log: int
    lock: int
    listen: tuple[tuple[int, str], ...]
    sockets: tuple[int, ...]
