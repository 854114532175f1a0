"""What is kept of passwords, and each mechanism step by step, beside a client by another hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scramp import ScramClient

from inboundmx.policy import authenticating
from inboundmx.policy.authenticating import FEWEST, MECHANISMS, SCRAM, Malformed, Step, Users, exchange, made, read

# As few iterations as there may be: what takes long is not tested here.
KEYS = made("pencil", b"s" * 16, FEWEST)
USERS = read(f"# those who send\n\nann:{KEYS}\n")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authenticating, "ITERATIONS", FEWEST)


def by_scram(name: str, password: str, users: Users = USERS) -> Step:
    client, ours = ScramClient([SCRAM], name, password), exchange(SCRAM)
    step = ours.step(client.get_client_first().encode(), users)
    assert step.challenge is not None and step.name == name
    client.set_server_first(step.challenge.decode())
    step = ours.step(client.get_client_final().encode(), users)
    if step.challenge is None:
        return step
    client.set_server_final(step.challenge.decode())
    return ours.step(b"", users)


@pytest.mark.parametrize(
    ("name", "password", "proved"),
    [("ann", "pencil", True), ("ann", "Pencil", False), ("bob", "pencil", False), ("ann", "", False)],
)
def test_all_mechanisms_agree(name: str, password: str, proved: bool) -> None:
    plain = exchange("PLAIN").step(f"\0{name}\0{password}".encode(), USERS)
    assert plain == Step(None, name, proved)
    login = exchange("LOGIN")
    assert login.step(None, USERS) == Step(b"Username:", "")
    assert login.step(name.encode(), USERS) == Step(b"Password:", name)
    assert login.step(password.encode(), USERS) == plain
    if password:
        assert by_scram(name, password) == plain


def test_plain_may_be_asked_for_and_acts_for_nobody_else() -> None:
    assert exchange("PLAIN").step(None, USERS) == Step(b"", "")
    assert exchange("PLAIN").step(b"ann\0ann\0pencil", USERS).proved
    assert not exchange("PLAIN").step(b"bob\0ann\0pencil", USERS).proved


def test_a_name_that_nobody_has_costs_and_tells_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(password: str, salt: bytes, iterations: int = 0) -> object:
        asked.append(iterations)
        return made(password, salt, iterations)

    monkeypatch.setattr(authenticating, "made", counted)
    for name in ("ann", "nobody"):
        assert not USERS.verify(name, "wrong")
    assert asked == [FEWEST, FEWEST]
    again = read(f"# those who send\n\nann:{KEYS}\n")
    assert USERS.of("nobody") == again.of("nobody") != USERS.of("somebody")
    assert len(USERS.of("nobody").salt) == len(KEYS.salt)


def test_the_file_is_read_as_it_was_written() -> None:
    keys = {"ann": KEYS, "bob@here.example": made("other", b"t" * 16, FEWEST)}
    text = authenticating.written(keys)
    assert read(text).keys == keys
    assert "pencil" not in text


@pytest.mark.parametrize(
    "line",
    [
        "ann", "ann:pencil", f"ann:{KEYS} ", f"an n:{KEYS}", f":{KEYS}", f"ann:{KEYS}\nann:{KEYS}",
        "ann:" + str(KEYS).replace("4096", "4095"), "ann:" + str(KEYS).replace("4096", "9999999"),
        "ann:" + str(KEYS)[:-2], f"{'a' * 255}:{KEYS}",
    ],
)  # fmt: skip
def test_a_line_that_is_no_user_is_said_without_its_keys(line: str) -> None:
    if line.endswith(" "):
        assert read(line).keys
        return
    with pytest.raises(ValueError, match=r"line \d") as raised:
        read(line)
    assert "pencil" not in str(raised.value) and KEYS.salt.decode() not in str(raised.value)


@pytest.mark.parametrize("password", ["", "x" * 1025, "bell\x07"])
def test_what_can_be_no_password(password: str) -> None:
    with pytest.raises(ValueError, match="password"):
        made(password, b"s" * 16, FEWEST)
    assert not USERS.verify("ann", password)


@pytest.mark.parametrize(
    "said",
    [b"", b"n,,n=ann", b"n,,n=ann,r=", b"p=tls-unique,,n=ann,r=abc", b"\xff", b"n,,n=a=ann,r=x", b"n,,m=x,n=ann,r=x"],
)
def test_a_first_word_that_is_none_of_scram(said: bytes) -> None:
    ours = exchange(SCRAM)
    try:
        step = ours.step(said, USERS)
    except Malformed:
        return
    assert not step.proved
    with pytest.raises(Malformed):
        ours.step(said, USERS)


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.sampled_from(MECHANISMS), st.lists(st.binary(max_size=60) | st.just(b"n,,n=ann,r=abcdef"), max_size=4))
def test_nothing_that_is_said_proves_anything_but_the_password(mechanism: str, said: list[bytes]) -> None:
    ours = exchange(mechanism)
    for each in said:
        try:
            step = ours.step(each, USERS)
        except Malformed:
            return
        assert not step.proved
        if step.challenge is None:
            return
