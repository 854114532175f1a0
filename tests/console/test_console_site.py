"""What the console answers, to whom, and what it says of itself: nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from console_fakes import PASSWORD, STATUS, Console, basic
from twisted.logger import globalLogPublisher

from inboundmx import __version__
from inboundmx.console.access import ADDRESSES, FAILURES, WINDOW_SECONDS, is_password, names_us
from inboundmx.console.routes import ROUTES
from inboundmx.model.settings import ConsoleSettings

ANN = f"Authorization: {basic('ann', 's3cret')}"


def test_all_is_well() -> None:
    heard = Console().ask("/healthz")
    assert (heard.code, heard.text) == (200, "ok\n")


def test_no_mail_can_be_taken() -> None:
    console = Console()
    console.trouble = "disk-full"
    heard = console.ask("/healthz")
    assert (heard.code, heard.reason, heard.text) == (503, "Service Unavailable", "disk-full\n")


def test_the_status() -> None:
    heard = Console().ask("/api/status", ANN)
    assert heard.fields["content-type"] == "application/json"
    assert heard.facts == {
        "version": __version__,
        "spool": {"active": 7, "held": 2, "quarantined": 1, "waiting": 6},
        "hosts": {"192.0.2.10:25": {"state": "closed", "last_error": "", "connections": 2}},
        "connections": 7,
    }


def test_the_status_before_anything_was_delivered() -> None:
    console = Console()
    console.status = {"spool": STATUS["spool"], "primaries": []}
    told = console.ask("/api/status", ANN).facts
    assert (told["spool"]["waiting"], told["hosts"], told["connections"]) == (7, {}, 0)


@pytest.mark.parametrize("path", [*ROUTES, "/nothing", "/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "get"])
def test_what_every_answer_says(path: str, method: str) -> None:
    heard = Console().ask(path, method=method)
    assert heard.fields["cache-control"] == "no-store"
    assert heard.fields["x-content-type-options"] == "nosniff"
    assert heard.fields["content-security-policy"] == "default-src 'none'"
    assert heard.fields["connection"] == "close"
    assert "server" not in heard.fields
    assert len(heard.content) == (0 if method == "HEAD" else int(heard.fields["content-length"]))
    assert int(heard.fields["content-length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "PROPFIND"])
def test_only_get_and_head(method: str) -> None:
    heard = Console().ask("/healthz", method=method)
    assert (heard.code, heard.fields["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/healthz/", "//healthz", "/api", "/api/status/x", "/%68ealthz", "*"]
)
def test_nothing_else_is_here(path: str) -> None:
    assert Console().ask(path).code == 404


def test_a_query_changes_nothing() -> None:
    assert Console().ask("/healthz?a=b&a=%ff&&=").code == 200


# --- by which name ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:9998", "127.0.0.1:9998", "192.0.2.7", "[::1]", "[::1]:9998", "mx.gateway.example",
     "MX.gateway.example.:1", "mx2.gateway.example"],
)  # fmt: skip
def test_names_that_are_ours(host: str) -> None:
    assert Console().ask("/healthz", host=host).code == 200


@pytest.mark.parametrize(
    "host",
    ["", "evil.test", "evil.test:9998", "localhost.evil.test", "mx.gateway.example.evil.test", "[evil.test]",
     "127.0.0.1.evil.test", "user@localhost", "localhost:9998:1", "localhost, evil.test", "[::1", "2130706433"],
)  # fmt: skip
@pytest.mark.parametrize("local", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_names_that_were_made_to_point_here(host: str, local: str) -> None:
    assert Console().ask("/healthz", host=host, ends=(local, local)).code == 400


def test_on_other_addresses_any_name_will_do() -> None:
    assert Console().ask("/healthz", host="status.gateway.example", ends=("192.0.2.9", "192.0.2.1")).code == 200


@pytest.mark.parametrize("ends", [("127.0.0.1", "127.0.0.1"), ("192.0.2.9", "192.0.2.1")])
def test_one_host_field(ends: tuple[str, str]) -> None:
    console = Console()
    assert console.ask("/healthz", host=None, ends=ends).code == 400
    assert console.ask("/healthz", "Host: localhost", ends=ends).code == 400
    assert console.ask("/healthz", host=None, version="1.0", ends=ends).code == 200


def test_what_a_host_field_may_not_be() -> None:
    assert not names_us("\u0661\u0662\u0667.0.0.1:\u0669", ())


# --- by which password ------------------------------------------------------------------------------------------------


def test_without_a_password_it_is_closed_to_everybody() -> None:
    console = Console(ConsoleSettings(username="ann"))
    for fields in ((), (ANN,), (f"Authorization: {basic('ann', '')}",)):
        heard = console.ask("/api/status", *fields)
        assert heard.code == 403 and "password is not set" in heard.text
    assert console.ask("/healthz").code == 200


@pytest.mark.parametrize(
    "given",
    ["", "Basic", "Basic ", "Basic !!!", "Basic YW5u", basic("ann", "S3cret"), basic("ann", "s3cret "), basic("", ""),
     basic("bob", "s3cret"), basic("", "s3cret"), "Bearer s3cret", "Digest " + basic("ann", "s3cret")[6:],
     basic("ann", "s3cret")[6:], "Basic \xff\xfe", "Basic " + "A" * 4000],
)  # fmt: skip
def test_a_wrong_password(given: str) -> None:
    console = Console()
    line = console.connect()
    assert line is not None
    line.says(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + given.encode("latin-1") + b"\r\n\r\n")
    assert line.heard.code == 401
    assert line.heard.fields["www-authenticate"].startswith('Basic realm="inboundmx"')
    assert "active" not in line.heard.text
    assert [event for event, _ in console.events] == ["login_failed"]


def test_asking_without_a_password_is_no_wrong_password() -> None:
    console = Console()
    for _ in range(2 * FAILURES):
        assert console.ask("/api/status").code == 401
    assert console.events == []
    assert console.ask("/api/status", ANN).code == 200


def test_two_passwords_are_none() -> None:
    assert Console().ask("/api/status", ANN, ANN).code == 401


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_a_right_password(scheme: str) -> None:
    assert is_password(scheme + basic("ann", "caf\u00e9:x")[5:], "ann", "caf\u00e9:x")


def test_too_many_wrong_passwords() -> None:
    console = Console()
    for _ in range(FAILURES):
        assert console.status_of("wrong").code == 401
    heard = console.status_of()
    assert (heard.code, heard.fields["retry-after"]) == (429, "60")
    assert len(console.events) == FAILURES
    assert console.status_of(client="192.0.2.10").code == 200
    assert console.ask("/healthz", ends=("192.0.2.9", "192.0.2.1")).code == 200
    console.clock.advance(WINDOW_SECONDS - 1)
    assert (console.status_of().code, console.status_of().fields["retry-after"]) == (429, "1")
    console.clock.advance(1)
    assert console.status_of().code == 200


def test_wrong_passwords_of_another_minute_do_not_count() -> None:
    console = Console()
    for _ in range(5):
        for _ in range(FAILURES - 1):
            assert console.status_of("wrong").code == 401
        console.clock.advance(WINDOW_SECONDS)
    assert console.status_of().code == 200


def test_neighbours_of_ipv6_are_one() -> None:
    console = Console()
    for each in range(FAILURES):
        assert console.status_of("wrong", f"2001:db8::{each:x}").code == 401
    assert console.status_of(client="2001:db8::ffff:ffff:ffff:ffff").code == 429
    assert console.status_of(client="2001:db8:0:1::1").code == 200


def test_a_neighbour_on_the_link() -> None:
    console = Console()
    for each in range(FAILURES):
        assert console.status_of("wrong", f"fe80::{each:x}%eth0").code == 401
    assert console.status_of(client="fe80::ffff%eth0").code == 429


def test_what_is_remembered_is_bounded() -> None:
    console = Console()
    for _ in range(FAILURES):
        console.status_of("wrong", "198.51.100.1")
    for each in range(ADDRESSES - 1):
        console.clock.advance(0.001)
        console.status_of("wrong", f"10.0.{each >> 8}.{each & 255}")
    assert console.status_of(client="198.51.100.1").code == 429
    console.status_of("wrong", "10.1.0.0")
    assert console.status_of(client="198.51.100.1").code == 200


# --- reload, and faults of ours ---------------------------------------------------------------------------------------


def test_new_settings_hold_at_once() -> None:
    console = Console()
    console.settings = replace(
        console.settings,
        console=replace(PASSWORD, password="other"),
        gateway=replace(console.settings.gateway, hostname="new.gateway.example"),
    )
    assert console.status_of().code == 401
    assert console.status_of("other").code == 200
    assert console.ask("/healthz", host="new.gateway.example").code == 200
    assert console.ask("/healthz", host="mx.gateway.example").code == 400


def test_a_fault_of_ours_is_for_the_log() -> None:
    console = Console()
    console.status = RuntimeError("a secret of ours")
    logged: list[object] = []
    globalLogPublisher.addObserver(logged.append)
    try:
        heard = console.ask("/api/status", ANN)
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert heard.code == 500
    assert "secret" not in heard.text and "Traceback" not in heard.text
    assert len(logged) == 1
