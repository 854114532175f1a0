"""Checks that need others beside them."""

from __future__ import annotations

from typing import Any

import pytest

from inboundmx.app.check_warnings import of_checks
from inboundmx.model.settings import CheckSettings, GatewaySettings, Settings

HELO_ALONE = "dmarc asks for mailfrom, so mail that DKIM does not speak for fails"
NOBODY_FAILS = "what is not asked is held against nobody, so no mail fails"


@pytest.mark.parametrize(
    ("kinds", "warnings"),
    [
        ("spf dkim dmarc", []),
        ("spf dkim", []),
        ("spf dmarc", [f"[check x-dmarc] no [check ...] uses dkim: {NOBODY_FAILS}"]),
        ("dmarc", [f"[check x-dmarc] no [check ...] uses spf or dkim: {NOBODY_FAILS}"]),
        ("arc", ["[check x-arc] trusted does nothing: no [check ...] uses dmarc"]),
        ("arc spf dkim dmarc", []),
        ("dmarc helo dkim", [f"[check x-helo] identity = helo: {HELO_ALONE}"]),
    ],
)
def test_what_is_missing_is_said(kinds: str, warnings: list[str]) -> None:
    options: dict[str, dict[str, Any]] = {"arc": {"trusted": ("list.example",)}, "helo": {"identity": "helo"}}
    use = {"helo": "spf"}
    checks = tuple(
        CheckSettings(f"x-{kind}", use.get(kind, kind), options=options.get(kind, {})) for kind in kinds.split()
    )
    assert of_checks(Settings(gateway=GatewaySettings(hostname="mx.a.example"), checks=checks)) == warnings
