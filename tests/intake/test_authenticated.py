"""With ``bounce = verified``: which facts of the checks let a sender be told."""

from __future__ import annotations

from typing import Any

import pytest
from gate import ANN, MAIL, Gate, check, domain, settings

from inboundmx.checks.headers import Headers
from inboundmx.model.custody import Handover
from inboundmx.model.finding import Finding


@pytest.mark.parametrize(
    ("fact", "may"),
    [
        ("spf_mailfrom", True),
        ("dkim_sender", True),
        ("spf_helo", False),
        ("dkim", False),
        ("spf_mailfrom_temperror", False),
        # What a sealer saw is about the author, and about mail that came to him.
        ("arc_spf", False),
        ("arc_dkim", False),
        ("arc_dmarc", False),
    ],
)
def test_who_is_authenticated(fact: str, may: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def examine(self: Headers, case: Any) -> Finding:
        return Finding("absent", facts=((fact, "b.example"),))

    monkeypatch.setattr(Headers, "examine", examine)
    gate = Gate(settings(check("pills", "pills", 1.0), domains=(domain("a.example", bounce="verified"),)))
    gate.courier.handover = Handover("postponed", detail="down")

    gate.send(MAIL, ANN)

    assert gate.spool.entries()[0].may_notify is may
