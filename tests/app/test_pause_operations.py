"""Which domains can be paused: those with a section, and any where mail leaves us or others' MX sets name us."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.journal import FakeJournal
from fakes.services import Outcome
from twisted.internet.defer import succeed

from inboundmx.app.answers import NotUnderstood
from inboundmx.app.pause_operations import PauseOperations
from inboundmx.delivery.pausing import Pauses
from inboundmx.model.custody import Host
from inboundmx.model.settings import BackupSettings, DomainSettings, RelaySettings, Settings

OURS = {"a.example": DomainSettings("a.example", primary=(Host("192.0.2.10"),))}
RELAYING = Settings(domains=OURS, relay=RelaySettings((ip_network("192.0.2.10"),)))
BACKUP = Settings(domains=OURS, backup=BackupSettings((ip_network("192.0.2.10"),)))


def paused(settings: Settings, domain: str) -> Any:
    pauses = Pauses(FakeClock(), FakeJournal(), lambda kept: succeed(None))
    operations = PauseOperations(pauses, FakeClock(), lambda: settings)
    outcome = Outcome(operations.perform("pause", {"domain": domain}, "root"))
    if outcome.error is not None:
        raise outcome.error
    return [row["domain"] for row in outcome.value]


@pytest.mark.parametrize(
    ("settings", "domain", "name"),
    [
        (Settings(domains=OURS), "A.example.", "a.example"),
        (RELAYING, "far.test", "far.test"),
        (BACKUP, "bücher.test", "xn--bcher-kva.test"),
    ],
)
def test_paused(settings: Settings, domain: str, name: str) -> None:
    assert paused(settings, domain) == [name]


@pytest.mark.parametrize(
    ("settings", "domain"), [(Settings(domains=OURS), "far.test"), (RELAYING, "far test"), (RELAYING, "-.test")]
)
def test_not_paused(settings: Settings, domain: str) -> None:
    with pytest.raises(NotUnderstood, match="nothing was paused"):
        paused(settings, domain)
