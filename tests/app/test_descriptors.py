"""What strangers may have of the descriptors that there are."""

from __future__ import annotations

import resource

import pytest

from inboundmx.app.descriptors import FOR_OURSELVES, room_for_strangers
from inboundmx.model.settings import Settings
from inboundmx.smtp.server import OVERHANG


@pytest.mark.parametrize("hard", [0, 100, 256, 1024, 20_000, 1_048_576])
def test_strangers_never_have_what_we_need(monkeypatch: pytest.MonkeyPatch, hard: int) -> None:
    asked: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append((which, limits)))
    settings = Settings()
    room = room_for_strangers(settings)
    assert asked == [(resource.RLIMIT_NOFILE, (hard, hard))]
    assert min(room) >= 1
    ours = FOR_OURSELVES + settings.delivery.max_connections
    if hard >= 256:
        assert sum(room) + OVERHANG + ours == hard
        assert room.connections > room.files
    if hard == 20_000:
        assert room.connections > 10_000
