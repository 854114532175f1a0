"""What an operator is warned of about where mail goes."""

import datetime
import os
import pwd
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inboundmx.app import checking, route_warnings
from inboundmx.model.custody import Host
from inboundmx.model.settings import (
    BACKED_UP,
    ArchiveSettings,
    BackupSettings,
    CheckSettings,
    ConsoleSettings,
    DeliverySettings,
    DomainSettings,
    GatewaySettings,
    ListsSettings,
    OutboundSettings,
    RelaySettings,
    Retry,
    Settings,
    SmtpSettings,
)

NOW = datetime.datetime(2030, 6, 1, tzinfo=datetime.UTC)
DOMAIN = DomainSettings("example.net", primary=(Host("192.0.2.10"),))
FINE = Settings(
    gateway=GatewaySettings(
        hostname="mx1.example.net", postmaster="postmaster@example.net", addresses=("203.0.113.1",), data="/tmp"
    ),
    domains={"example.net": DOMAIN},
    checks=(CheckSettings("spf", "spf"),),
)
RELAY = OutboundSettings("r", server=(Host("192.0.2.40"),))


def warned(settings: Settings) -> list[str]:
    return checking.warnings(settings, NOW)


# --- what strangers could make of us ----------------------------------------------------------------------------------


def test_every_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = replace(DOMAIN, name="*")
    settings = replace(FINE, everything=everything)
    said = ["[domain *] takes mail for any domain: a primary that trusts us and sends it on makes us an open relay"]
    assert checking.warnings_at_start(settings) == said
    assert warned(settings) == said
    assert warned(replace(FINE, everything=replace(everything, enabled=False))) == []


@pytest.mark.parametrize(
    ("network", "vast"),
    [
        ("0.0.0.0/0", True), ("::/0", True), ("198.50.0.0/15", True), ("8.0.0.0/7", True), ("2001:db8::/31", True),
        ("fc00::/6", True), ("10.0.0.0/8", False), ("fc00::/7", False), ("203.0.0.0/16", False),
        ("192.0.2.0/24", False), ("2001:db8::/32", False),
    ],
)  # fmt: skip
def test_networks_of_which_nobody_knows_who_is_in_them(network: str, vast: bool) -> None:
    networks: Any = (ip_network(network),)
    said = checking.warnings_at_start(
        replace(FINE, relay=RelaySettings(networks), backup=BackupSettings(networks, Retry((900.0,), True)))
    )
    assert said == [
        f"[relay] allow {network}: so many may send out through us that we are as good as an open relay",
        f"[backup] primaries {network}: whoever owns a domain could have us deliver its mail to any of so many",
    ] * vast  # fmt: skip


@pytest.mark.parametrize(
    ("endpoint", "password", "said"),
    [
        ("tcp:9998:interface=127.0.0.1", "", ""),
        ("tcp:9998:127.0.0.1", "", ""),
        ("tcp6:9998:interface=\\:\\:1", "", ""),
        ("unix:/run/x", "", ""),
        ("systemd:domain=INET:index=0", "", ""),
        ("tcp:9998", "", "{} can be reached from elsewhere, and has no username and password"),
        ("tcp:9998:interface=192.0.2.1", "", "{} can be reached from elsewhere, and has no username and password"),
        ("tcp:9998", "x", "{} can be reached from elsewhere: the password goes there in the clear"),
        ("ssl:9998", "x", ""),
    ],
)
def test_a_console_that_strangers_reach(endpoint: str, password: str, said: str) -> None:
    settings = replace(FINE, console=ConsoleSettings((endpoint,), "status" * bool(password), password))
    found = checking.warnings_at_start(settings)
    assert found == ([f"[console] {said.format(endpoint)}"] if said else [])


@pytest.mark.parametrize(
    ("endpoint", "reachable"),
    [
        ("tcp:25", False),
        ("haproxy:tcp:25:interface=127.0.0.1", False),
        ("haproxy:tcp6:25:interface=\\:\\:1", False),
        ("haproxy:unix:/run/x", False),
        ("haproxy:tcp:25", True),
        ("haproxy:tcp:25:interface=192.0.2.1", True),
    ],
)
def test_a_proxy_that_is_not_named_is_refused(endpoint: str, reachable: bool) -> None:
    settings = replace(FINE, gateway=replace(FINE.gateway, listen=("tcp:25", endpoint)))
    said = f"[gateway] listen {endpoint}: a proxy elsewhere is refused there until [smtp] proxies names it"
    assert warned(settings) == [said] * reachable
    assert warned(replace(settings, smtp=SmtpSettings(proxies=(ip_network("192.0.2.7"),)))) == []


@pytest.mark.parametrize("key", ["proxies", "xclient"])
def test_so_many_say_themselves_who_they_are(key: str) -> None:
    listen = replace(FINE.gateway, listen=("haproxy:tcp:25",))
    for network, vast in (("192.0.2.0/24", False), ("203.0.0.0/8", True), ("::/0", True)):
        smtp = replace(SmtpSettings(), **{key: (ip_network(network),)})
        found = checking.warnings_at_start(replace(FINE, gateway=listen, smtp=smtp))
        assert [each.startswith(f"[smtp] {key} {network}: so many ") for each in found] == [True] * vast


@pytest.mark.parametrize(
    ("primary", "allow", "said"),
    [("mail.example.net", True, True), ("192.0.2.10", True, False), ("mail.example.net", False, False)],
)
def test_a_primary_that_is_not_known_by_its_name(primary: str, allow: bool, said: bool) -> None:
    everything = replace(DOMAIN, name="*", primary=(Host(primary),))
    relay = RelaySettings((ip_network("192.0.2.10"),) if allow else ())
    found = warned(replace(FINE, everything=everything, relay=relay))
    assert any(each.startswith(f"[domain *] primary {primary}:25 is a name") for each in found) is said


# --- what comes to nothing --------------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    ("url", "password", "said"),
    [
        ("http://east.example.net:9998", "x", True),
        ("http://192.0.2.40", "x", True),
        ("http://east.example.net:9998", "", False),
        ("http://127.0.0.1:9998", "x", False),
        ("http://[::1]:9998", "x", False),
        ("http://localhost:9998", "x", False),
        ("https://east.example.net:9998", "x", False),
    ],
)
def test_a_password_that_can_be_read_on_the_way(url: str, password: str, said: bool) -> None:
    outbound = replace(RELAY, status_url=url, status_username="u", status_password=password)
    told = f"[outbound r] status_url {url}: the password goes there in the clear"
    assert warned(replace(FINE, outbound=(outbound,))) == [told] * said
    assert warned(replace(FINE, outbound=(replace(outbound, enabled=False),))) == []


OFF = replace(RELAY, mode="domains", enabled=False)
NAMED = {"example.net": replace(DOMAIN, outbound="r")}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"outbound": (RELAY,)}, []),
        ({"outbound": (replace(RELAY, mode="domains"),), "domains": NAMED}, []),
        ({"outbound": (OFF,), "domains": NAMED}, [
            "[domain example.net] outbound = r: that one is switched off, and mail it sends leaves as everybody's"]),
        ({"outbound": (replace(RELAY, mode="domains"),)}, [
            "[outbound r] has mode = domains, and no domain names it: nothing leaves by it"]),
        ({"outbound": (replace(RELAY, priority=(1, 5)), replace(RELAY, name="q", priority=(7, 9)))}, [
            "no [outbound] takes mail of priority 6 10: it leaves directly"]),
        ({"outbound": (replace(RELAY, server=(Host("127.0.0.1", 25),)),)}, [
            "[outbound r] server 127.0.0.1:25 is this gateway itself: mail would go in a circle"]),
        ({"archives": (ArchiveSettings("a", "example.net", "/x"), ArchiveSettings("b", path="/x"))}, []),
        ({"archives": (ArchiveSettings("a", "example.org", "/x"),)}, [
            "[archive a]: there is no [domain example.org] whose incoming mail it could keep"]),
        ({"archives": (ArchiveSettings("a", "example.org", "/x", "outgoing"),)}, []),
        ({"backup": BackupSettings((ip_network("192.0.2.10/32"),)), "backed_up": BACKED_UP}, [
            "[backup] mail is held for an operator after 24.5 h without its primary; RFC 5321 4.5.4.1 advises "
            "4 to 5 days, for example retry = 15/30/60/90/240* with lifetime = 5d"]),
        ({"backup": BackupSettings((ip_network("192.0.2.10/32"),)),
          "backed_up": replace(BACKED_UP, retry=Retry((900.0,), True)),
          "gateway": replace(FINE.gateway, addresses=())}, [
            "[backup] primaries: [gateway] addresses is empty, so an MX set names us where it has our name or an "
            "address of this machine; behind NAT, give the public ones"]),
        ({"domains": {}, "relay": RelaySettings((ip_network("192.0.2.0/28"),))}, []),
    ],
)  # fmt: skip
def test_warnings(changed: dict[str, Any], said: list[str]) -> None:
    assert warned(replace(FINE, **changed)) == said


def test_source_addresses_that_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_warnings, "here", lambda address: address == "192.0.2.5")
    outbound = replace(RELAY, source_address=("2001:db8::6",))
    settings = replace(
        FINE,
        delivery=DeliverySettings(source_address=("192.0.2.5", "192.0.2.6")),
        outbound=(outbound, replace(outbound, name="q", enabled=False)),
    )
    assert warned(settings) == [
        "[delivery] source_address 192.0.2.6 is no address of this machine: the system chooses another",
        "[outbound r] source_address 2001:db8::6 is no address of this machine: the system chooses another",
    ]


def test_which_addresses_are_here() -> None:
    assert route_warnings.here("127.0.0.1")
    assert not route_warnings.here("192.0.2.5")
    assert not route_warnings.here("2001:db8::5")


def test_a_folder_for_copies_that_the_user_may_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As root would see it, whoever runs this test; nothing above is anybody's business here.
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getgrouplist", lambda *_: [4711])
    monkeypatch.setattr(pwd, "getpwnam", lambda _: SimpleNamespace(pw_uid=4711, pw_gid=4711))
    tmp_path.chmod(0o711)

    def said(path: str) -> list[str]:
        gateway = replace(FINE.gateway, user="mail", data="/nowhere/data")
        settings = replace(FINE, gateway=gateway, archives=(ArchiveSettings("a", path=path),))
        return [problem for problem in checking.problems_at_start(settings) if "user" in problem]

    wrong = f"[archive a] path {tmp_path}/x/y cannot be used by [gateway] user mail: it may not write in {tmp_path}"
    assert said(f"{tmp_path}/x/y") == [wrong]
    tmp_path.chmod(0o733)
    assert said(f"{tmp_path}/x/y") == []
    # What is in the data folder belongs to the user, like the folder.
    assert said("/nowhere/data/archive") == []
    assert len(said("/nowhere/else")) == 1


def test_a_folder_for_copies_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file" / "x")
    settings = replace(FINE, archives=(ArchiveSettings("a", path=path),))
    assert checking.problems_at_start(settings) == [
        f"[archive a] path {path} cannot be made: {tmp_path}/file is not a folder"
    ]
    assert checking.problems_at_start(replace(FINE, archives=(ArchiveSettings("a", path=path, rule="none"),))) == []


@pytest.mark.parametrize(("network", "vast"), [("0.0.0.0/0", True), ("198.50.0.0/15", True), ("192.0.2.0/24", False)])
def test_those_that_are_whitelisted_are_too_many_to_relay_for(network: str, vast: bool) -> None:
    networks: Any = (ip_network(network),)
    settings = replace(FINE, lists=ListsSettings(whitelist_smtp=networks, whitelist_spam=networks, blacklist=networks))
    assert checking.warnings_at_start(settings) == []
    assert checking.warnings_at_start(replace(settings, relay=RelaySettings(("whitelisted",)))) == [
        f"[lists] whitelist_smtp {network}: so many may send out through us that we are as good as an open relay"
    ] * vast
