"""Checks that need others beside them."""

from __future__ import annotations

from typing import Any

import pytest

from inboundmx.app.check_warnings import of_checks
from inboundmx.model.settings import CheckSettings, DomainSettings, GatewaySettings, Settings

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


@pytest.mark.parametrize(
    ("of_check", "of_domain", "said"),
    [
        ({"new": "defer", "early": "defer"}, {}, []),
        ({"new": 3.0, "early": 3.0}, {}, []),
        ({"new": 3.0, "early": "defer"}, {}, ["[check grey] weight.new = 3 lets the first mail in, and weight.early"]),
        (
            {"new": "defer", "early": "defer"},
            {("grey", "new"): 3.0},
            ["[domain a.example] weight.grey.new = 3 lets the first mail in, and weight.grey.early"],
        ),
        ({"new": "defer", "early": "defer"}, {("grey", "new"): 3.0, ("grey", "early"): 0.0}, []),
    ],
)
def test_who_is_let_in_at_once_and_put_off_then_is_not_meant(of_check: Any, of_domain: Any, said: list[str]) -> None:
    settings = Settings(
        gateway=GatewaySettings(hostname="mx.a.example"),
        checks=(CheckSettings("grey", "greylist", weights=of_check),),
        domains={"a.example": DomainSettings("a.example", weights=of_domain)},
    )
    assert of_checks(settings) == [f"{each} puts the next one off" for each in said]
