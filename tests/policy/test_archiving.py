"""Which archives get a copy, and because of whom."""

from __future__ import annotations

import pytest

from inboundmx.model.address import Address
from inboundmx.model.settings import ArchiveSettings, DomainSettings
from inboundmx.policy.archiving import archives_for

ANN, EVE, FAR = Address("ann", "a.example"), Address("eve", "c.example"), Address("far", "far.example")
IN = {ANN: DomainSettings("a.example"), EVE: DomainSettings("c.example", via="backup")}
OUT = {FAR: DomainSettings("far.example", via="outbound")}
ANYBODY, OURS = Address("x", "far.example"), Address("bob", "a.example")


@pytest.mark.parametrize(
    ("domain", "rule", "sender", "accepted", "because_of"),
    [
        ("*", "all", ANYBODY, IN, ANN),
        ("*", "all", None, IN, ANN),
        ("*", "all", OURS, OUT, FAR),
        ("*", "all", None, OUT, FAR),
        ("*", "none", OURS, IN | OUT, None),
        ("*", "incoming", OURS, OUT, None),
        ("*", "incoming", OURS, OUT | IN, ANN),
        ("*", "outgoing", ANYBODY, IN, None),
        ("*", "outgoing", ANYBODY, IN | OUT, FAR),
        ("c.example", "all", ANYBODY, IN, EVE),
        ("c.example", "incoming", ANYBODY, IN, EVE),
        ("c.example", "outgoing", ANYBODY, IN, None),
        ("c.example", "incoming", ANYBODY, {ANN: IN[ANN]}, None),
        ("a.example", "outgoing", OURS, OUT, FAR),
        ("a.example", "all", OURS, OUT, FAR),
        ("a.example", "outgoing", None, OUT, None),
        ("a.example", "outgoing", ANYBODY, OUT, None),
        ("far.example", "all", OURS, OUT, None),
        ("a.example", "outgoing", OURS, {EVE: IN[EVE]}, None),
    ],
)
def test_who_is_archived(domain, rule, sender, accepted, because_of) -> None:
    archive = ArchiveSettings("books", domain, "/archive", rule)
    assert archives_for((archive,), sender, accepted) == ([] if because_of is None else [(archive, because_of)])


def test_each_archive_has_its_own_reason() -> None:
    every, one = ArchiveSettings("every"), ArchiveSettings("one", "c.example")
    assert archives_for((one, every), ANYBODY, IN) == [(one, EVE), (every, ANN)]
