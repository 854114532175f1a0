"""A changed copy is what the standard library would make of it."""

import dataclasses

import pytest

from inboundmx.model.address import Address
from inboundmx.model.custody import SpoolEntry, SpoolRecipient
from inboundmx.model.record import replace
from inboundmx.model.reply import Reply

ENTRY = SpoolEntry(
    "entry1", "message1", "body1", 1.0, None, (SpoolRecipient(Address("bob", "here.example")),), 4096, "here.example"
)


@pytest.mark.parametrize("changes", [{}, {"attempts": 3}, {"envid": "last", "id": "first", "cause": "several"}])
def test_a_changed_copy_is_what_the_standard_library_makes_of_it(changes):
    copy = replace(ENTRY, **changes)

    assert copy == dataclasses.replace(ENTRY, **changes)
    assert copy is not ENTRY
    assert ENTRY.attempts == 0


def test_what_a_value_refuses_it_refuses_of_a_copy():
    with pytest.raises(ValueError, match="different classes"):
        replace(Reply(451, "4.3.0", "later"), code=550)
    with pytest.raises(KeyError):
        replace(ENTRY, colour="blue")
