"""Recipients for whom something else holds than for their domain: each is judged by his own, and nobody hears of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gate import ANN, BOB, EVE, SPAM, Gate

from inboundmx.app.settings import load
from inboundmx.checks.api import Case
from inboundmx.checks.headers import Headers
from inboundmx.model.address import Address
from inboundmx.model.custody import State
from inboundmx.model.envelope import Envelope
from inboundmx.policy.listing import Listing, written_entries

DOMAINS = "[domain a.example]\nprimary = 192.0.2.10\nrecipients = any\n"
OTHERS = "[domain c.example]\nprimary = 192.0.2.10\nrecipients = any\n"
PILLS = "[check pills]\nuse = headers\nheader = Subject\nvalue = pills\nweight.match = 30\n"
BOSSES = "[recipients bosses]\nmatch = bob@a.example\n"


def gate(folder: Path, *parts: str) -> Gate:
    path = folder / "in.ini"
    path.write_text("[gateway]\nhostname = mx.example.net\n" + "".join(parts))
    settings = load(str(path))
    return Gate(settings, lists=Listing(entry for _, entry in written_entries(settings.lists)))


def states(gate: Gate) -> dict[str, State]:
    return {str(r.address): entry.state for entry in gate.spool.entries() for r in entry.recipients}


def stamps(gate: Gate, state: State) -> bytes:
    (found,) = (d.content.prefix for change in gate.spool.commits for d in change.add if d.entry.state is state)
    return found


def test_what_one_weighs_otherwise_is_nothing_to_the_others_of_his_domain(tmp_path: Path) -> None:
    made = gate(tmp_path, DOMAINS, PILLS, BOSSES, "weight.pills.match = 12\n")
    assert made.send(SPAM, ANN, BOB).code == 250
    assert states(made) == {str(ANN): State.QUARANTINED, str(BOB): State.ACTIVE}
    ours, theirs = stamps(made, State.QUARANTINED), stamps(made, State.ACTIVE)
    assert b"X-Spam-Checks: pills=match(30)" in ours and b"X-Spam-Checks: pills=match(12)" in theirs
    assert b"bosses" not in ours + theirs
    assert {entry.body_id for entry in made.spool.entries()} == {made.spool.entries()[0].message_id}
    told = {tuple(fields["recipients"]): fields for _, _, fields in made.journal.events}
    assert told[str(BOB),]["settings_of"] == "bosses" and "settings_of" not in told[str(ANN),]


def test_several_whose_settings_come_to_the_same_share_one_transmission(tmp_path: Path) -> None:
    made = gate(tmp_path, DOMAINS, PILLS, "weight.absent = 1\n", BOSSES, "level.high.action = quarantine\n")
    assert made.send(SPAM.replace(b"pills", b"tea"), ANN, BOB).code == 250
    (parcel,) = made.courier.parcels
    assert parcel.recipients == (ANN, BOB)


def test_a_check_that_somebody_skips_is_asked_once_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    real = Headers.examine

    async def counting(self: Headers, case: Case) -> Any:
        asked.append(case)
        return await real(self, case)

    monkeypatch.setattr(Headers, "examine", counting)
    made = gate(tmp_path, DOMAINS, PILLS, BOSSES, "skip_checks = pills\n")
    assert made.send(SPAM, ANN, BOB, Address("eva", "a.example")).code == 250
    assert len(asked) == 1
    assert states(made) == {str(ANN): State.QUARANTINED, str(BOB): State.ACTIVE, "eva@a.example": State.QUARANTINED}
    assert b"X-Spam-Checks: none\r\n" in stamps(made, State.ACTIVE)
    made.conversation.reset()
    assert made.send(SPAM, BOB).code == 250
    assert len(asked) == 1, "whom it concerns nobody, is not asked"


def test_a_domain_may_skip_one_and_a_recipient_take_it_up_again(tmp_path: Path) -> None:
    made = gate(tmp_path, DOMAINS, "skip_checks = pills\n", PILLS, BOSSES, "skip_checks =\n")
    assert made.send(SPAM, ANN, BOB).code == 250
    assert states(made) == {str(ANN): State.ACTIVE, str(BOB): State.QUARANTINED}


def test_what_is_for_outgoing_mail_alone_is_not_taken_up_again_with_the_rest(tmp_path: Path) -> None:
    outgoing = PILLS + "for = outgoing\n"
    made = gate(tmp_path, DOMAINS, "skip_checks = pills\n", outgoing, BOSSES, "skip_checks =\n")
    assert made.send(SPAM, BOB).code == 250
    (parcel,) = made.courier.parcels
    assert b"X-Spam-Checks: none\r\n" in parcel.content.prefix


def test_what_somebody_weighs_otherwise_refuses_nobody_before_he_is_named(tmp_path: Path) -> None:
    """The blocked sender is refused at MAIL, but where one recipient may want him."""
    blocked = "[lists]\nblocked_senders = s@b.example\n[check senders]\nuse = blocked\n"
    made = gate(tmp_path, DOMAINS, blocked)
    assert made.ask(made.conversation.mail(Envelope(Address("s", "b.example")))).code == 550
    made = gate(tmp_path, DOMAINS, blocked, BOSSES, "weight.senders.blocked = 5\n")
    assert made.ask(made.conversation.mail(Envelope(Address("s", "b.example")))).code == 250
    assert made.ask(made.conversation.recipient(ANN)).code == 550
    assert made.ask(made.conversation.recipient(BOB)).code == 250


SENDERS = "[lists]\nblocked_senders = s@b.example\n[check senders]\nuse = blocked\ncounts_for = blocking filtering\n"


def test_a_sum_blocks_at_rcpt_and_spares_whom_people_write_to_about_it(tmp_path: Path) -> None:
    sections = (SENDERS, "weight.blocked = 30\n", BOSSES, "blocking.incoming_threshold = 31\n")
    made = gate(tmp_path, DOMAINS, OTHERS, *sections)
    assert made.ask(made.conversation.mail(Envelope(Address("s", "b.example")))).code == 250
    roles = [Address("Postmaster", "a.example"), Address("abuse", "c.example"), Address("postmaster", "")]
    asked = [ANN, EVE, BOB, *roles]
    replies = [made.ask(made.conversation.recipient(each)) for each in asked]
    assert [reply.code for reply in replies] == [554, 554, 250, 250, 250, 250]
    made.conversation.reset()
    assert made.send(SPAM, Address("abuse", "a.example")).code == 250
    (parcel,) = made.courier.parcels
    assert b"X-Spam-Level: HIGH\r\nX-Spam-Score: 30\r\n" in parcel.content.prefix, "it is taken, and marked"


def test_a_word_that_decides_holds_for_postmasters_as_well(tmp_path: Path) -> None:
    made = gate(tmp_path, DOMAINS, PILLS.replace("30", "reject"))
    assert made.send(SPAM, Address("postmaster", "a.example")).code == 554


def test_of_two_recipients_one_hears_of_greylisting(tmp_path: Path) -> None:
    made = gate(tmp_path, DOMAINS, BOSSES, "greylisting = no\n")
    assert made.reception.plan.overrides.of(BOB, made.settings.domains["a.example"]).greylisting is False
    assert made.reception.plan.overrides.of(ANN, made.settings.domains["a.example"]).greylisting is True


CAROL = Address("carol", "a.example")


def stories(gate: Gate, event: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """What each event of that name told, by its recipients; nobody is in two of them."""
    told = {tuple(fields["recipients"]): dict(fields) for what, _, fields in gate.journal.events if what == event}
    everybody = [each for some in told for each in some]
    assert len(everybody) == len(set(everybody))
    return told


def test_who_is_put_off_for_the_sake_of_another_is_told_so_with_what_was_said_of_him(tmp_path: Path) -> None:
    made = gate(tmp_path, DOMAINS, PILLS.replace("30", "3"), BOSSES, "weight.pills.match = defer\n")
    assert made.send(SPAM, ANN, BOB).code == 451
    told = stories(made, "refused")
    assert told[str(ANN),]["because_of"] == str(BOB) and told[str(ANN),]["score"] == 3
    assert "settings_of" not in told[str(ANN),]
    assert told[str(BOB),]["settings_of"] == "bosses" and "because_of" not in told[str(BOB),]
    assert told[str(ANN),]["reply"] == told[str(BOB),]["reply"]


def test_what_is_told_of_one_is_not_told_of_another_who_is_named_behind_him(tmp_path: Path) -> None:
    """Whoever comes first has settings of his own, and they are his alone."""
    aside = "level.high.action = redirect carol@a.example\n"
    made = gate(tmp_path, DOMAINS, PILLS, "[level high]\naction = deliver\n", BOSSES, aside)
    assert made.send(SPAM, BOB, ANN).code == 250
    told = stories(made, "spooled")
    assert told[str(BOB),]["settings_of"] == "bosses" and told[str(BOB),]["actions"] == ['redirect "carol@a.example"']
    assert "settings_of" not in told[str(ANN),]
    assert {str(r.address) for entry in made.spool.entries() for r in entry.recipients} == {str(ANN), str(CAROL)}


def test_what_is_discarded_for_several_is_told_of_each(tmp_path: Path) -> None:
    weighs = "weight.pills.match = 12\nlevel.low.action = discard\n"
    made = gate(tmp_path, DOMAINS, PILLS, "[level high]\naction = discard\n", BOSSES, weighs)
    assert made.send(SPAM, ANN, BOB).code == 250
    told = stories(made, "discarded")
    assert told[str(ANN),]["spam_level"] == "high" and told[str(BOB),]["spam_level"] == "low"
    assert made.spool.entries() == ()


def test_where_settings_come_to_the_same_it_is_told_whose_were_whose(tmp_path: Path) -> None:
    made = gate(tmp_path, DOMAINS, PILLS, BOSSES, "weight.pills.match = reject\n")
    assert made.send(SPAM.replace(b"pills", b"tea"), BOB, ANN).code == 250
    ((_, _, told),) = made.journal.events
    assert told["recipients"] == [str(BOB), str(ANN)] and told["settings_of"] == f"bosses for {BOB}"
