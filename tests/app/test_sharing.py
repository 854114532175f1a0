"""Limits divided among workers: together never less than what was asked for, and nothing else changed."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.app.sharing import shared_out
from inboundmx.model.settings import DomainSettings, Settings, SmtpSettings

PLAIN = Settings(
    domains={"a.example": DomainSettings("a.example", messages_per_hour=5000, bounces_per_hour=3)},
    everything=DomainSettings("*", bandwidth_per_hour=10),
    fingerprint="abc",
)


def test_one_worker_has_it_all() -> None:
    assert shared_out(PLAIN, 1) is PLAIN


def test_two_have_a_half_each_rounded_up() -> None:
    shared = shared_out(PLAIN, 2)
    assert (shared.smtp.max_connections, shared.smtp.max_connections_per_ip) == (500, 25)
    assert (shared.delivery.max_connections, shared.delivery.max_connections_per_host) == (25, 10)
    assert shared.delivery.notices_per_hour == 500
    own = shared.domains["a.example"]
    assert (own.messages_per_hour, own.bounces_per_hour, own.bandwidth_per_hour) == (2500, 2, 0)
    assert shared.everything is not None
    assert shared.everything.bandwidth_per_hour == 5
    assert shared.fingerprint == "abc"


def test_what_counts_nothing_stays() -> None:
    shared = shared_out(PLAIN, 3)
    assert replace(shared.smtp, max_connections=1000, max_connections_per_ip=50) == PLAIN.smtp
    assert shared.smtp.max_recipients == PLAIN.smtp.max_recipients
    assert shared.gateway == PLAIN.gateway


@given(st.integers(1, 10**6), st.integers(1, 64))
def test_the_sum_is_the_limit_or_little_more(limit: int, workers: int) -> None:
    settings = Settings(smtp=SmtpSettings(max_connections=limit))
    share = shared_out(settings, workers).smtp.max_connections
    assert limit <= share * workers < limit + workers


@pytest.mark.parametrize("workers", [2, 64])
def test_no_limit_stays_none(workers: int) -> None:
    shared = shared_out(PLAIN, workers)
    assert shared.domains["a.example"].bandwidth_per_hour == 0


# Of one session, message or attempt, counted by all together, or not a limit at all: what one worker does is no concern
# of the others.
OF_ONE = {
    "max_bad_commands", "max_bad_recipients", "max_junk_commands", "max_hop_count", "max_message_size",
    "max_recipients", "min_data_rate", "dns_error_attempts", "message_size_threshold", "auto_allow",
    "at_least", "times",
}  # fmt: skip


def odd(section: Any) -> tuple[Any, set[str]]:
    """With all its numbers odd; and their names."""
    kinds = {"count", "any_count", "size", "any_size"}
    numbers = {each.name for each in fields(section) if each.metadata.get("kind") in kinds}
    return replace(section, **dict.fromkeys(numbers, 101)), numbers


def test_every_number_that_limits_the_whole_gateway_is_shared_out() -> None:
    sections = {each.name: odd(value) for each in fields(Settings) if is_dataclass(value := getattr(PLAIN, each.name))}
    settings = replace(PLAIN, **{name: section for name, (section, _) in sections.items()})
    shared = shared_out(settings, 2)
    for name, (_, numbers) in sections.items():
        if name in ("outgoing", "backed_up", "archiving"):
            # Made of [delivery], which has no throttles.
            continue
        after = getattr(shared, name)
        assert {number for number in numbers if getattr(after, number) == 51} == numbers - OF_ONE, name
    assert {number for _, numbers in sections.values() for number in numbers} >= OF_ONE
