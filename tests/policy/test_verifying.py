"""What a primary's words say of a mailbox."""

import pytest

from inboundmx.model.address import Address
from inboundmx.model.custody import DeliveryAttempt, Host, Phase
from inboundmx.model.reply import Reply
from inboundmx.policy.verifying import answer, learned

ANN, BOB = Address("ann", "a.example"), Address("bob", "a.example")


def attempt(*replies, phase=Phase.RECIPIENT, trouble=""):
    pairs = tuple(zip((ANN, BOB), replies, strict=False))
    return DeliveryAttempt(Host("192.0.2.10"), 0.0, 1.0, phase, pairs, "", trouble, phase is Phase.DOT)


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (Reply(250, "2.1.5", "ok"), "exists"),
        (Reply(251, "", "will forward"), "exists"),
        (Reply(550, "5.1.1", "no such user"), "unknown"),
        (Reply(550, "", "no such user"), "unknown"),
        (Reply(551, "5.1.6", "moved"), "unknown"),
        (Reply(553, "5.1.3", "bad name"), "unknown"),
        (Reply(550, "5.1.10", "not found"), "unknown"),
        # About the sender, about us, about the moment: not about the mailbox.
        (Reply(550, "5.1.7", "your address"), "undetermined"),
        (Reply(553, "5.1.8", "your domain"), "undetermined"),
        (Reply(550, "5.7.1", "denied"), "undetermined"),
        (Reply(550, "5.2.1", "disabled"), "undetermined"),
        (Reply(552, "5.2.2", "full"), "undetermined"),
        (Reply(554, "", "go away"), "undetermined"),
        (Reply(554, "5.1.1", "odd"), "undetermined"),
        (Reply(450, "4.1.1", "later"), "undetermined"),
        (Reply(421, "4.3.2", "bye"), "undetermined"),
    ],
)
def test_an_answer_to_a_question(reply, word):
    assert answer(attempt(reply), ANN)[0] == word


@pytest.mark.parametrize("code", [250, 450, 550])
def test_what_is_said_at_mail_says_nothing_of_the_recipient(code):
    reply = Reply(code, "", "the null sender is not welcome")
    assert answer(attempt(reply, phase=Phase.MAIL), ANN)[0] == "undetermined"


@pytest.mark.parametrize("trouble", ["timeout", "lost", "garbage", "rejects_us", "abandoned", "unable"])
def test_trouble_is_no_answer(trouble):
    assert answer(attempt(Reply(550, "5.1.1", "x"), trouble=trouble), ANN)[0] == "undetermined"


def test_nobody_asked_about_is_not_determined():
    assert answer(attempt(Reply(250, "", "ok")), BOB)[0] == "undetermined"


@pytest.mark.parametrize(
    ("case", "found"),
    [
        (attempt(Reply(250, "2.0.0", "kept"), phase=Phase.DOT), [(ANN, True)]),
        (attempt(Reply(550, "5.1.1", "none")), [(ANN, False)]),
        # A real sender may be what is refused here, and content behind the dot.
        (attempt(Reply(550, "", "none")), []),
        (attempt(Reply(550, "5.7.1", "spam"), phase=Phase.DOT), []),
        # Whatever is said of a recipient by whom is not asked about one.
        (attempt(Reply(550, "5.1.1", "no such sender"), phase=Phase.MAIL), []),
        (attempt(Reply(550, "5.1.1", "none"), phase=Phase.DOT), []),
        (attempt(Reply(550, "5.1.0", "Sender address rejected: User unknown")), []),
        (attempt(Reply(550, "5.1.10", "not found")), [(ANN, False)]),
        (attempt(Reply(450, "4.2.0", "greylisted")), []),
        # Accepted at RCPT, and then the sender gave up: nothing was taken.
        (attempt(Reply(250, "", "ok"), Reply(550, "5.1.1", "none")), [(BOB, False)]),
        (attempt(Reply(250, "", "kept"), Reply(550, "5.1.1", "none"), phase=Phase.DOT), [(ANN, True), (BOB, False)]),
        (attempt(Reply(250, "", "kept"), phase=Phase.DOT, trouble="lost"), []),
    ],
)
def test_what_deliveries_teach(case, found):
    assert learned(case) == found
