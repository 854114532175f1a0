"""What an MX set means: directly, and as backup."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.model.custody import Host
from inboundmx.model.reply import Reply
from inboundmx.policy.mx import (
    ADDRESSES_LIMIT,
    LOOP,
    NO_ADDRESS,
    RECORDS_LIMIT,
    Exchanger,
    apart,
    backup_hosts,
    direct_hosts,
    exchanger,
    listed,
    no_destination,
    null,
    ourselves,
)
from inboundmx.ports import Answer, NoRoute, Unavailable

REFUSAL = Reply(550, "5.7.1", "no")
SILENCE = Unavailable("SERVFAIL")
PRIMARIES = (ip_network("192.0.2.10/31"), ip_network("2001:db8::10/128"))
US, OUR_NAME = "198.51.100.1", "mx2.example.net"
OWN = frozenset({US, OUR_NAME})
P, P2, P6, STRANGER = "192.0.2.10", "192.0.2.11", "2001:db8::10", "203.0.113.9"


def ex(preference: int, name: str, *addresses: str, unsure: bool = False, alias: bool = False) -> Exchanger:
    return Exchanger(preference, name, addresses, unsure, alias)


def shown(hosts: Sequence[Host]) -> list[str]:
    assert all(host.port == 25 and host.protocol == "smtp" for host in hosts)
    return [f"{host.address} {host.name}" for host in hosts]


def came_of(call: Any, *arguments: Any) -> Any:
    """Hosts as text, the reply of NoRoute, or the word unavailable."""
    try:
        return shown(call(*arguments))
    except NoRoute as nowhere:
        return nowhere.reply
    except Unavailable:
        return "unavailable"


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "is_null"),
    [
        ((), False),
        (((0, ""),), True),
        (((10, ""),), True),
        (((0, ""), (10, "mx.a.test")), False),
        (((0, "mx.a.test"),), False),
    ],
)
def test_null_mx(rows: tuple[tuple[int, str], ...], is_null: bool) -> None:
    assert null(rows) is is_null


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([], []),
        ([(20, "b"), (10, "a")], [(10, "a"), (20, "b")]),
        ([(10, "b"), (10, "a")], [(10, "b"), (10, "a")]),
        ([(20, "a"), (10, "a")], [(10, "a")]),
        ([(0, ""), (10, "a")], [(10, "a")]),
        ([(0, r"evil\032<script>.test"), (10, "a.b-c._d")], [(10, "a.b-c._d")]),
        ([(0, "a..b"), (0, ".a"), (0, "a\n.b"), (65535, "192.0.2.1")], [(65535, "192.0.2.1")]),
        ([(n, f"h{n}") for n in range(50, 0, -1)], [(n, f"h{n}") for n in range(1, RECORDS_LIMIT + 1)]),
    ],
)
def test_records_by_preference(rows: list[tuple[int, str]], kept: list[tuple[int, str]]) -> None:
    assert listed(rows) == tuple(kept)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([f"h{n}" for n in range(30)] + ["", "x y"]))))
def test_records_are_some_of_the_set_best_first(rows: list[tuple[int, str]]) -> None:
    kept = listed(rows)
    assert set(kept) <= set(rows) and len({name for _, name in kept}) == len(kept)
    assert [preference for preference, _ in kept] == sorted(preference for preference, _ in kept)
    for preference, name in kept:
        assert preference == min(p for p, n in rows if n == name)
    for preference in range(4):
        # Equal ones as they were given: shuffled before, they are shuffled after.
        equal = [name for p, name in kept if p == preference]
        places = [next(at for at, row in enumerate(rows) if row == (preference, name)) for name in equal]
        assert places == sorted(places)


@pytest.mark.parametrize(
    ("records", "better", "ours"),
    [
        ([(10, "a"), (20, "b")], [(10, "a"), (20, "b")], []),
        ([(10, "a"), (20, OUR_NAME), (20, "b"), (30, "c")], [(10, "a")], [(20, OUR_NAME)]),
        ([(10, OUR_NAME), (10, "a")], [], [(10, OUR_NAME)]),
    ],
)
def test_what_is_no_better_than_our_name_is_not_looked_up(records: Any, better: Any, ours: Any) -> None:
    assert apart(records, OWN) == (tuple(better), tuple(Exchanger(*each) for each in ours))


# --- one host ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("six", "four", "addresses", "unsure"),
    [
        (Answer(()), Answer(()), (), False),
        (Answer((), False), Answer((), False), (), False),
        (Answer((P6,)), Answer((P,)), (P6, P), False),
        (Answer((P6, "2001:db8::2")), Answer((P,)), (P6, P, "2001:db8::2"), False),
        (Answer((P6,)), Answer((P, P2, STRANGER)), (P6, P, P2, STRANGER), False),
        (Answer(()), Answer((P2, P)), (P2, P), False),
        (SILENCE, Answer((P,)), (P,), True),
        (Answer((P6,)), SILENCE, (P6,), True),
        (SILENCE, SILENCE, (), True),
        (Answer(("::ffff:127.0.0.1", P6)), Answer((P,)), (P6, P), False),
    ],
)
def test_families_take_turns(six: Any, four: Any, addresses: tuple[str, ...], unsure: bool) -> None:
    assert exchanger(10, "h", six, four, True) == Exchanger(10, "h", addresses, unsure, True)


@pytest.mark.parametrize(
    ("address", "none"),
    [
        ("0.0.0.0", True),
        ("0.1.2.3", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("169.254.1.1", True),
        ("224.0.0.1", True),
        ("239.255.255.255", True),
        ("240.0.0.1", True),
        ("255.255.255.255", True),
        ("::", True),
        ("::1", True),
        ("fe80::1", True),
        ("ff02::1", True),
        ("1.0.0.1", False),
        ("126.255.255.255", False),
        ("128.0.0.1", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("192.0.2.1", False),
        ("223.255.255.255", False),
        ("2001:db8::1", False),
        ("fd00::1", False),
    ],
)
def test_no_destination(address: str, none: bool) -> None:
    assert no_destination(address) is none


def test_we_are_written_as_answers_are() -> None:
    texts = ("MX1.Example.NET.", "2001:DB8:0::1", "::ffff:192.0.2.7", "fe80::1%eth0", "", "192.0.2.8")
    assert ourselves(texts) == {"mx1.example.net", "2001:db8::1", "192.0.2.7", "fe80::1", "192.0.2.8"}


# --- directly ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "came"),
    [
        # One host, both families.
        ([ex(10, "a", P6, P)], [f"{P6} a", f"{P} a"]),
        # In the order of the set.
        ([ex(10, "a", P), ex(20, "b", P2)], [f"{P} a", f"{P2} b"]),
        # No address.
        ([], NO_ADDRESS),
        ([ex(10, "a")], NO_ADDRESS),
        ([ex(10, "a"), ex(20, "b", P)], [f"{P} b"]),
        # Not answered: in nobody's way, and no reason to give up.
        ([ex(10, "a", unsure=True), ex(20, "b", P)], [f"{P} b"]),
        ([ex(10, "a", P, unsure=True)], [f"{P} a"]),
        ([ex(10, "a", unsure=True), ex(20, "b")], "unavailable"),
        # An address twice is tried once.
        ([ex(10, "a", P), ex(20, "b", P, P2)], [f"{P} a", f"{P2} b"]),
        # Aliases: not while there is another, rather than nothing.
        ([ex(10, "a", P, alias=True), ex(20, "b", P2)], [f"{P2} b"]),
        ([ex(10, "a", P, alias=True), ex(20, "b")], [f"{P} a"]),
        ([ex(10, "a", P, alias=True), ex(20, "b", P2, alias=True)], [f"{P} a", f"{P2} b"]),
        # Ourselves by name or address: we, our equals and what is worse are left out.
        ([ex(10, "a", P), ex(20, OUR_NAME), ex(20, "b", P2), ex(30, "c", STRANGER)], [f"{P} a"]),
        ([ex(10, "a", P), ex(20, "b", P2, US), ex(30, "c", STRANGER)], [f"{P} a"]),
        ([ex(10, "a", US), ex(20, "b", P)], LOOP),
        ([ex(10, "a", P), ex(10, OUR_NAME)], LOOP),
        ([ex(0, "a.test", US)], LOOP),
        # Who is better than us has no address: that is not a loop.
        ([ex(10, "a"), ex(20, OUR_NAME)], NO_ADDRESS),
        ([ex(10, "a", unsure=True), ex(20, OUR_NAME)], "unavailable"),
        # Who is worse than us does not matter.
        ([ex(10, OUR_NAME), ex(20, "b", unsure=True)], LOOP),
        # No destination.
        ([ex(10, "a", "127.0.0.1")], NO_ADDRESS),
        ([ex(10, "a", "::1", "127.0.0.1", P), ex(20, "b", "0.0.0.0")], [f"{P} a"]),
        ([ex(10, "a", "169.254.0.1"), ex(20, "b", unsure=True)], "unavailable"),
    ],
)
def test_directly(found: list[Exchanger], came: Any) -> None:
    assert came_of(direct_hosts, found, OWN) == came


def test_what_is_forbidden_can_be_told() -> None:
    found = [ex(10, "a", "127.0.0.2", P)]
    assert shown(direct_hosts(found, OWN, lambda address: address == P)) == ["127.0.0.2 a"]


def test_a_host_with_many_addresses_leaves_room_for_others() -> None:
    many = [f"203.0.113.{n}" for n in range(30)]
    assert len(direct_hosts([ex(10, "a", *many)], OWN)) == ADDRESSES_LIMIT
    both = direct_hosts([ex(10, "a", *many), ex(20, "b", *(f"192.0.2.{n}" for n in range(30)))], OWN)
    assert [host.name for host in both] == ["a"] * 5 + ["b"] * 5
    # What others leave.
    some = direct_hosts([ex(10, "a", *many), ex(20, "b", P), ex(30, "c", *many, P2)], OWN)
    assert [host.name for host in some] == ["a"] * 8 + ["b", "c"]
    assert [host.name for host in direct_hosts([ex(10, "b", P), ex(20, "a", *many)], OWN)] == ["b"] + ["a"] * 9
    more = [f"192.0.2.{n}" for n in range(30)]
    three = direct_hosts([ex(10, "a", *many), ex(20, "b", *more), ex(30, "c", "10.0.0.1")], OWN)
    assert [host.name for host in three] == ["a"] * 6 + ["b"] * 3 + ["c"]
    # One of each family at least, however many hosts there are.
    crowd = direct_hosts([ex(n, f"h{n}", f"2001:db8::{n + 1}", f"192.0.2.{n}") for n in range(20)], OWN)
    assert [host.name for host in crowd] == [f"h{n // 2}" for n in range(ADDRESSES_LIMIT)]


POOL = [US, P, P2, P6, STRANGER, "2001:db8::99", "127.0.0.1", "10.0.0.1"]
EXCHANGERS = st.lists(
    st.builds(
        Exchanger,
        st.integers(0, 3),
        st.sampled_from([OUR_NAME, *"abcdefgh"]),
        st.lists(st.sampled_from(POOL), max_size=3, unique=True).map(tuple),
        st.booleans(),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda each: each.name,
).map(lambda found: sorted(found, key=lambda each: each.preference))


def is_us(each: Exchanger) -> bool:
    return each.name == OUR_NAME or US in each.addresses


@given(EXCHANGERS)
def test_direct_hosts_are_better_than_us_in_order_and_possible(found: list[Exchanger]) -> None:
    came = came_of(direct_hosts, found, OWN)
    ours = min((each.preference for each in found if is_us(each)), default=99)
    by_name = {each.name: each for each in found}
    if not isinstance(came, list):
        better = [each for each in found if each.preference < ours]
        assert not any(not no_destination(address) for each in better for address in each.addresses)
        if came == "unavailable":
            assert any(each.unsure for each in better)
        else:
            assert not any(each.unsure for each in better)
            assert (came == LOOP) is (ours < 99 and not better)
        return
    assert 0 < len(came) <= ADDRESSES_LIMIT and len({line.split()[0] for line in came}) == len(came)
    preferences = []
    for line in came:
        address, name = line.split()
        each = by_name[name]
        assert address in each.addresses and address != US and not no_destination(address)
        assert each.preference < ours
        preferences.append(each.preference)
    assert preferences == sorted(preferences)
    # Aliases alone or not at all.
    assert len({by_name[line.split()[1]].alias for line in came}) == 1


# --- as backup --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "came"),
    [
        # We by name, we by address.
        ([ex(10, "a", P), ex(20, OUR_NAME)], [f"{P} a"]),
        ([ex(10, "a", P), ex(20, "b", US)], [f"{P} a"]),
        # Only what is called a primary, in order of preference, both families.
        ([ex(10, "a", P6, P, STRANGER), ex(15, "b", P2), ex(20, OUR_NAME)], [f"{P6} a", f"{P} a", f"{P2} b"]),
        ([ex(5, "s", STRANGER), ex(10, "a", P), ex(20, OUR_NAME)], [f"{P} a"]),
        # A primary that is no better than us; primaries alone; we alone; strangers.
        ([ex(10, OUR_NAME), ex(20, "a", P)], REFUSAL),
        ([ex(10, OUR_NAME), ex(10, "a", P)], REFUSAL),
        ([ex(5, "s", STRANGER), ex(10, OUR_NAME), ex(20, "a", P)], REFUSAL),
        ([ex(10, "a", P), ex(20, "b", P2)], REFUSAL),
        ([ex(10, OUR_NAME)], REFUSAL),
        ([ex(10, "s", STRANGER), ex(20, OUR_NAME)], REFUSAL),
        ([], REFUSAL),
        # Twice in the set, we are as good as the better of the two.
        ([ex(10, "b", US), ex(20, "a", P), ex(30, OUR_NAME)], REFUSAL),
        # A host that is us and a primary at once is us.
        ([ex(10, "a", P, US), ex(20, OUR_NAME)], REFUSAL),
        # Not answered, and it matters: it may be a primary, or name us.
        ([ex(10, "a", unsure=True), ex(20, OUR_NAME)], "unavailable"),
        ([ex(10, "s", STRANGER, unsure=True), ex(20, OUR_NAME)], "unavailable"),
        ([ex(10, "a", P), ex(20, "b", unsure=True)], "unavailable"),
        ([ex(10, "a", unsure=True), ex(20, "b", unsure=True)], "unavailable"),
        # It may be us, and better than we thought.
        ([ex(5, "b", unsure=True), ex(10, "a", P), ex(20, OUR_NAME)], "unavailable"),
        ([ex(10, "b", unsure=True), ex(10, "a", P), ex(20, OUR_NAME)], "unavailable"),
        # Not answered, and it does not matter.
        ([ex(10, "a", P, unsure=True), ex(20, OUR_NAME)], [f"{P} a"]),
        ([ex(10, "a", P), ex(20, OUR_NAME), ex(30, "b", unsure=True)], [f"{P} a"]),
        ([ex(10, "a", P), ex(15, "b", unsure=True), ex(20, OUR_NAME)], [f"{P} a"]),
        ([ex(5, "s", STRANGER, unsure=True), ex(10, "a", P), ex(20, OUR_NAME)], [f"{P} a"]),
        ([ex(10, OUR_NAME), ex(20, "b", unsure=True)], REFUSAL),
        ([ex(10, "a", unsure=True), ex(10, "b", unsure=True)], REFUSAL),
        ([ex(10, "b", unsure=True), ex(20, "a", P)], REFUSAL),
    ],
)
def test_as_backup(found: list[Exchanger], came: Any) -> None:
    assert came_of(backup_hosts, found, OWN, PRIMARIES, REFUSAL) == came


def test_our_own_address_is_no_primary_of_ours() -> None:
    primaries = (ip_network(f"{US}/32"), ip_network("0.0.0.0/0"))
    found = [ex(10, "a", US), ex(20, OUR_NAME)]
    assert came_of(backup_hosts, found, OWN, primaries, REFUSAL) == REFUSAL


def primary(address: str) -> bool:
    return any(ip_address(address) in network for network in PRIMARIES)


def certain_backup(found: list[Exchanger]) -> list[str]:
    """The rule, word for word, where everything was answered: addresses of primaries, best first."""
    ours = min((each.preference for each in found if is_us(each)), default=-1)
    better = [each for each in found if each.preference < ours]
    return list(dict.fromkeys(address for each in better for address in each.addresses if primary(address)))


@given(EXCHANGERS)
def test_backup_hosts_follow_the_rule(found: list[Exchanger]) -> None:
    found = [Exchanger(each.preference, each.name, each.addresses) for each in found]
    came = came_of(backup_hosts, found, OWN, PRIMARIES, REFUSAL)
    wanted = certain_backup(found)
    assert came == REFUSAL if not wanted else [line.split()[0] for line in came] == wanted


@given(EXCHANGERS, st.data())
def test_a_backup_is_refused_only_where_no_answer_could_change_that(found: list[Exchanger], data: Any) -> None:
    came = came_of(backup_hosts, found, OWN, PRIMARIES, REFUSAL)
    completed = []
    for each in found:
        more = data.draw(st.lists(st.sampled_from(POOL), max_size=2)) if each.unsure else []
        completed.append(Exchanger(each.preference, each.name, (*each.addresses, *more)))
    if came == REFUSAL:
        assert certain_backup(completed) == []
    elif came != "unavailable":
        # Whatever the rest may be, none but primaries, and better than what is known of us.
        ours = min(each.preference for each in found if is_us(each))
        for line in came:
            address, name = line.split()
            assert primary(address)
            assert any(each.name == name and each.preference < ours for each in found)
