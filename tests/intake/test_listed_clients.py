"""What a client is spared, or told, because of where it stands on the lists."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.lists import lists
from gate import SESSION, Gate, settings

from inboundmx.model.reply import Reply
from inboundmx.model.settings import RelaySettings


def test_who_is_blacklisted_hears_554_and_an_id_and_why_is_recorded() -> None:
    gate = Gate(settings(), lists=lists(blacklist="192.0.2.99"))
    text = f"your address is on the blacklist here {SESSION.id}"
    assert gate.conversation.arriving().refusal == Reply(554, "5.7.1", text, then_close=True)
    [(event, id, fields)] = gate.journal.events
    assert (event, id) == ("refused", SESSION.id)
    assert (fields["verb"], fields["ip"], fields["blacklist"]) == ("connect", "192.0.2.99", "192.0.2.99")


@pytest.mark.parametrize(
    ("white", "code"), [({}, 554), ({"whitelist_smtp": "192.0.2.99"}, 220), ({"whitelist_spam": "192.0.2.99"}, 554)]
)
def test_only_a_whitelist_for_smtp_outweighs_the_blacklist(white: dict[str, str], code: int) -> None:
    gate = Gate(settings(), lists=lists(blacklist="192.0.2.0/24", **white))
    welcome = gate.conversation.arriving()
    assert (welcome.refusal is not None) is (code == 554)
    assert welcome.spared is ("whitelist_smtp" in white)


def test_who_is_authenticated_is_not_asked_for_its_address_again() -> None:
    """The blacklist speaks before anything is said: what comes later is not for it."""
    gate = Gate(settings(), lists=lists(blacklist="192.0.2.99"))
    session = replace(SESSION, authenticated_as="ann")
    assert gate.ask(gate.conversation.hello(session)).code == 250


@pytest.mark.parametrize(("allow", "relays"), [((), False), (("whitelisted",), True)])
def test_a_whitelisted_client_sends_out_where_relaying_is_for_those(allow: tuple[str, ...], relays: bool) -> None:
    gate = Gate(settings(relay=RelaySettings(allow)), lists=lists(whitelist_smtp="192.0.2.99"))
    assert gate.conversation._relays is relays
