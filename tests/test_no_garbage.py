"""What a message needed is freed when it is through, and not when the collector of cycles comes by.

A cycle with a message in it would hold its content until then, and the collector comes seldom.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.socketless import LETTER, REFUSED, VISIT, SocketlessGateway

from inboundmx.model.message import SMALL_BODY

MANY = 20


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[SocketlessGateway]:
    gateway = SocketlessGateway(tmp_path)
    yield gateway
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def busy(octets: bytes) -> bytes:
    return b"452 4.3.1 no room\r\n" * (3 if octets.startswith(b"MAIL") else 1)


def left_behind(gateway: SocketlessGateway, said: tuple[bytes, ...]) -> tuple[list[bytes], list[str]]:
    """The last answers, and the types of what only the collector would free."""
    gateway.visit(said)
    gateway.catch_up()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    for _ in range(MANY):
        answers = gateway.visit(said)
        gateway.catch_up()
    gc.collect()
    return answers, sorted({type(garbage).__qualname__ for garbage in gc.garbage})


def test_what_was_handed_over_leaves_no_cycle(gateway: SocketlessGateway) -> None:
    answers, garbage = left_behind(gateway, VISIT)

    assert b"handed over" in answers[-2]
    assert garbage == []


def test_what_was_handed_over_from_a_file_leaves_no_cycle(gateway: SocketlessGateway) -> None:
    large = LETTER + b"The quick brown fox jumps over the lazy dog.\r\n" * 8000
    assert len(large) > SMALL_BODY

    answers, garbage = left_behind(gateway, (*VISIT[:4], large + b".\r\n", *VISIT[5:]))

    assert b"handed over" in answers[-2]
    assert garbage == []


def test_what_was_kept_leaves_no_cycle(gateway: SocketlessGateway) -> None:
    gateway.primary.answer = busy
    answers, garbage = left_behind(gateway, VISIT)

    assert b"accepted" in answers[-2]
    assert garbage == []


def test_what_was_refused_leaves_no_cycle(gateway: SocketlessGateway) -> None:
    answers, garbage = left_behind(gateway, REFUSED)

    assert answers[-2].startswith(b"550")
    assert garbage == []


def test_a_cycle_is_found(gateway: SocketlessGateway) -> None:
    gateway.catch_up = plant  # type: ignore[method-assign]
    _, garbage = left_behind(gateway, REFUSED)

    assert "list" in garbage


def plant() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
