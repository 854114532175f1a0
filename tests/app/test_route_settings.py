"""Where mail goes, as the INI says it: domains of every kind, servers that mail leaves by, archives, secrets."""

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from inboundmx.app.effective import as_ini, effective
from inboundmx.app.reading import keys_of
from inboundmx.app.settings import BadSettings, load
from inboundmx.model.custody import Host
from inboundmx.model.settings import (
    BACKUP_RETRY,
    MB,
    ArchiveSettings,
    BackupSettings,
    CheckSettings,
    ConsoleSettings,
    DeliverySettings,
    DomainSettings,
    OutboundSettings,
    PrioritySettings,
    RecipientsSettings,
    RelaySettings,
    Retry,
    Settings,
)

FULL = """
[gateway]
hostname = mx1.example.net
[delivery]
retry = 5/10
lifetime = 3d
tls = required
bounce = always
source_address = 192.0.2.5 2001:db8::5
notices_per_hour = 50
[blocking]
incoming_threshold = 44
[level high]
action = quarantine
[backup]
primaries = 192.0.2.10 198.51.100.0/28
[relay]
allow = 192.0.2.0/28 203.0.113.1-203.0.113.2
[priority]
over_size = 2
third_attempt = 1
[console]
listen = tcp:9998:interface=127.0.0.1
username = status
password = file:console.secret
[outbound Relay-A]
mode = domains
server = smtp.relay.example:587
username = gateway
password = plain words
tls = required
priority = 2-9
exclusive = no
source_address = 192.0.2.6
[outbound relay-b]
server = 192.0.2.41
enabled = no
description = the old one
[archive all]
path = archive
[archive board]
domain = Example.ORG
path = /var/board
rule = outgoing
[domain example.org]
primary = 192.0.2.1
outbound = relay-a
subdomains = yes
messages_per_hour = 5000
bandwidth_per_hour = 100MB
bounces_per_hour = 1000
client_facts = xforward
[domain below.example.org]
primary = 192.0.2.2
enabled = no
[domain *]
mode = backup
primary = 192.0.2.3
except = b.example C.example
"""


def written(folder: Path, text: str) -> str:
    secret = folder / "console.secret"
    secret.write_text("  of the console \nnot this\n")
    secret.chmod(0o640)
    path = folder / "in.ini"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture
def full(tmp_path: Path) -> Settings:
    return load(written(tmp_path, FULL))


def wrong(folder: Path, text: str) -> list[str]:
    """What is said of a file, the folder left out."""
    with pytest.raises(BadSettings) as raised:
        load(written(folder, text))
    return [str(problem).replace(f"{folder}/", "") for problem in raised.value.problems]


def test_sections_that_stand_alone(full: Settings) -> None:
    assert full.backup.primaries == (ip_network("192.0.2.10"), ip_network("198.51.100.0/28"))
    assert full.relay.allow == (
        ip_network("192.0.2.0/28"), ip_network("203.0.113.1/32"), ip_network("203.0.113.2/32")
    )  # fmt: skip
    assert full.priority == PrioritySettings(over_size=2, third_attempt=1)
    assert full.console == ConsoleSettings(("tcp:9998:interface=127.0.0.1",), "status", "of the console")
    assert (full.delivery.source_address, full.delivery.notices_per_hour) == (("192.0.2.5", "2001:db8::5"), 50)


def test_outbound_servers_and_archives(full: Settings, tmp_path: Path) -> None:
    assert full.outbound == (
        OutboundSettings(
            "relay-a", "domains", (Host("smtp.relay.example", 587),), "gateway", "plain words", tls="required",
            priority=(2, 9), exclusive=False, source_address=("192.0.2.6",),
        ),
        OutboundSettings("relay-b", server=(Host("192.0.2.41"),), enabled=False, description="the old one"),
    )  # fmt: skip
    assert full.archives == (
        ArchiveSettings("all", path=str(tmp_path / "archive")),
        ArchiveSettings("board", "example.org", "/var/board", "outgoing"),
    )


def test_what_a_domain_may_say(full: Settings) -> None:
    domain = full.domains["example.org"]
    assert (domain.outbound, domain.subdomains, domain.enabled) == ("relay-a", True, True)
    assert (domain.messages_per_hour, domain.bandwidth_per_hour, domain.bounces_per_hour) == (5000, 100 * MB, 1000)
    assert domain.client_facts == "xforward"
    assert not full.domains["below.example.org"].enabled


@pytest.mark.parametrize(
    ("name", "via", "primary"),
    [
        ("example.org", "", "192.0.2.1"),
        ("a.example.org", "", "192.0.2.1"),
        ("below.example.org", "", "192.0.2.2"),
        ("a.below.example.org", "", "192.0.2.1"),
        ("anything.example", "", "192.0.2.3"),
        ("a.b.example", "", "192.0.2.3"),
        ("b.example", "", None),
        ("c.example", "", None),
        ("example.org", "outbound", ""),
    ],
)
def test_which_settings_a_domain_has(full: Settings, name: str, via: str, primary: str | None) -> None:
    found = full.domain(name, via)
    if primary is None:
        assert found is None
    else:
        assert found is not None
        assert found.name == name
        assert "".join(host.address for host in found.primary) == primary


def test_domains_without_a_section_have_what_everybody_has(full: Settings) -> None:
    for domain in (full.everything, full.outgoing, full.backed_up, full.archiving):
        assert domain is not None
        assert domain.lifetime == 3 * 86400.0
        assert domain.tls == "required"
        assert domain.levels == full.levels
        assert domain.blocking.incoming_threshold == 44.0
    assert full.everything is not None
    assert (full.everything.name, full.everything.via) == ("*", "")
    assert (full.everything.retry, full.everything.when_exhausted) == (BACKUP_RETRY, "hold")
    outgoing = full.outgoing
    assert (outgoing.name, outgoing.via, outgoing.handover, outgoing.greylisting) == ("", "outbound", "spool", False)
    assert (outgoing.retry, outgoing.when_exhausted, outgoing.bounce) == (Retry((300.0, 600.0)), "bounce", "always")
    backup = full.backed_up
    assert (backup.via, backup.mode, backup.retry, backup.when_exhausted) == ("backup", "backup", BACKUP_RETRY, "hold")
    assert backup.handover == "cut-through"
    archiving = full.archiving
    assert (archiving.via, archiving.when_exhausted, archiving.bounce) == ("archive", "hold", "never")


def test_the_schedule_of_backup_may_be_another(tmp_path: Path) -> None:
    text = "[backup]\nprimaries = 192.0.2.1\nretry = 15/30*\nwhen_exhausted = bounce\ngreylisting = no\n"
    backup = load(written(tmp_path, text)).backed_up
    assert (backup.retry, backup.when_exhausted) == (Retry((900.0, 1800.0), True), "bounce")
    assert not backup.greylisting


def test_what_is_effective_reads_back_as_the_same(full: Settings, tmp_path: Path) -> None:
    again = tmp_path / "again.ini"
    again.write_text(as_ini(effective(full, lambda secret: secret)))
    assert load(str(again)) == full


# Texts by kind of value, some of them wrong: what is taken must read back.
TEXTS = {
    "users_file": ["", "file:/etc/inboundmx/users", "/etc/users"],
    "actions": ["deliver", 'tag "x", header "A: b"'],
    "addresses": ["", "192.0.2.1-192.0.2.3"],
    "any_count": ["0", "7", "-7"],
    "any_size": ["0", "7KB"],
    "console_endpoints": ["", "tcp:9998", "tcp:9998:interface=127.0.0.1 unix:/x"],
    "count": ["1", "2"],
    "domain_names": ["", "a.example ä.example"],
    "domain_or_all": ["*", "a.example"],
    "hosts": ["192.0.2.1", "a.example:26 [2001:db8::1]:25", "lmtp:a.example:24"],
    "http_user": ["", "me", "m:e"],
    "limit": ["1h", "10d"],
    "maybe_priority": ["", "3"],
    "networks": ["", "192.0.2.1-192.0.2.6 2001:db8::/64"],
    "path": ["x", "/x/../y"],
    "priorities": ["1-10", "4", "9-3"],
    "priority": ["1", "10"],
    "recipients": ["any", "learned callout", "file:x file:/x/../y http://a.example/{address}"],
    "relay": ["nobody", "192.0.2.0/30"],
    "retry": ["10/20", "0.5*"],
    "matches": ["a@a.example *@b.example c.example", "d@d.example"],
    "maybe_yes": ["", "yes", "off"],
    "direction": ["", "outgoing", "both"],
    "counts_for": ["blocking", "filtering blocking"],
    "secret": ["", "x", "a # b", "file:none"],
    "section_name": ["", "one", "TWO", "three"],
    "section_names": ["", "checked", "CHECKED checked"],
    "size": ["1KB"],
    "source_addresses": ["", "192.0.2.5 2001:db8::5"],
    "span": ["0s", "1.5s"],
    "status_url": ["", "http://a.example:9998/"],
    "text": ["", "for people", "a = b"],
    "yes": ["yes", "off"],
}
SECTIONS = {
    "delivery": DeliverySettings, "backup": BackupSettings, "relay": RelaySettings, "priority": PrioritySettings,
    "console": ConsoleSettings, "outbound one": OutboundSettings, "outbound two": OutboundSettings,
    "archive a": ArchiveSettings, "domain a.example": DomainSettings, "domain *": DomainSettings,
    "recipients some": RecipientsSettings, "check checked": CheckSettings,
}  # fmt: skip
NEEDED = {
    "recipients": "match = a@a.example", "check": "use = spf",
    "outbound": "server = 192.0.2.9", "archive": "path = x", "domain": "primary = 192.0.2.1"}


def texts(kind: str) -> list[str]:
    return kind.removeprefix("word:").split() if kind.startswith("word:") else TEXTS[kind]


@st.composite
def files(draw: st.DrawFn) -> str:
    lines = []
    for section in draw(st.lists(st.sampled_from(sorted(SECTIONS)), unique=True, min_size=1)):
        keys = keys_of(SECTIONS[section])
        said = draw(st.lists(st.sampled_from(sorted(keys)), unique=True, max_size=4))
        values = [f"{key} = {draw(st.sampled_from(texts(keys[key].metadata['kind'])))}" for key in said]
        needed = NEEDED.get(section.split(" ")[0], "")
        lines += [f"[{section}]", *([needed] if needed.split(" ")[0] not in said else ()), *values]
    return "\n".join(lines) + "\n"


@examples(max_examples=150, deadline=None)
@given(files())
def test_any_file_that_is_taken_reads_back_as_the_same(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.ini"
    path.write_text(text, encoding="utf-8")
    try:
        read = load(str(path))
    except BadSettings as bad:
        assert all(problem.line for problem in bad.problems)
        return
    path.write_text(as_ini(effective(read, lambda secret: secret)), encoding="utf-8")
    assert load(str(path)) == read
    assert load(str(path)).fingerprint == read.fingerprint


def test_no_secret_is_shown_and_each_is_in_the_fingerprint(full: Settings, tmp_path: Path) -> None:
    shown = as_ini(effective(full))
    assert shown.count("password = (hidden)") == 2
    for secret in ("of the console", "plain words"):
        assert secret not in shown
        assert secret not in repr(full)
    assert load(written(tmp_path, FULL.replace("plain words", "other words"))).fingerprint != full.fingerprint
    (tmp_path / "console.secret").write_text("other")
    assert load(str(tmp_path / "in.ini")).fingerprint != full.fingerprint


HERE = "[domain a.example]\nprimary = 192.0.2.1\n"
RELAY = "[outbound r]\nserver = 192.0.2.9\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[outbound]\n", "in.ini:1: [outbound]: needs a name: [outbound NAME]"),
        ("[outbound a b]\n",
         "in.ini:1: [outbound a b]: a b cannot be the name of an outbound: letters, digits, - and _, at most 40"),
        (RELAY + RELAY.replace("r]", "R]"), "in.ini:3: [outbound R]: an outbound named r stands here already"),
        ("[outbound r]\n", "in.ini:1: [outbound r]: server is missing: where its mail goes"),
        ("[outbound r]\nserver =\n", "in.ini:1: [outbound r]: server is missing: where its mail goes"),
        ("[outbound r]\nserver = lmtp:127.0.0.1:24\n", "in.ini:2: [outbound r] server = lmtp:127.0.0.1:24: "
         "lmtp:127.0.0.1:24: LMTP is for primaries; mail leaves by SMTP (RFC 2033 5)"),
        ("[outbound r]\nserver = 192.0.2.300\n", "in.ini:2: [outbound r] server = 192.0.2.300: "
         "192.0.2.300 is neither an IP address nor a domain name"),
        (RELAY + "servers = 192.0.2.9\n", "in.ini:3: [outbound r] servers = 192.0.2.9: "
         "there is no key servers here; did you mean server?"),
        (RELAY + "mode = domain\n",
         "in.ini:3: [outbound r] mode = domain: domain is not known here; did you mean domains?"),
        (RELAY + "priority = 9-2\n",
         "in.ini:3: [outbound r] priority = 9-2: 9-2 is no range; the lower priority stands first"),
        (RELAY + "source_address = relay.example\n",
         "in.ini:3: [outbound r] source_address = relay.example: relay.example is no IP address"),
        (RELAY + "source_address = 192.0.2.1 192.0.2.1\n",
         "in.ini:3: [outbound r] source_address = 192.0.2.1 192.0.2.1: an address stands there twice"),
        (RELAY + "username = me\n",
         "in.ini:3: [outbound r] username = me: password is missing: username is of no use without it"),
        (RELAY + "username =\npassword = abcdef\n",
         "in.ini:4: [outbound r] password = (hidden): username is missing: password is of no use without it"),
        (RELAY + "status_username = me\n", "in.ini:3: [outbound r] status_username = me: "
         "status_password is missing: status_username is of no use without it"),
        (RELAY + "tls = none\nusername = me\npassword = x\n", "in.ini:4: [outbound r] username = me: "
         "it could never authenticate: with tls = none that takes auth_without_tls = yes"),
        (RELAY + "status_url = 192.0.2.1:9998\n", "in.ini:3: [outbound r] status_url = 192.0.2.1:9998: "
         "is no address of a console; write it like http://192.0.2.20:9998"),
        ("[archive]\n", "in.ini:1: [archive]: needs a name: [archive NAME]"),
        ("[archive a]\n", "in.ini:1: [archive a]: path is missing: the folder for the copies"),
        ("[archive a]\npath = x\nrule = most\n",
         "in.ini:3: [archive a] rule = most: most is not known here; one of: all, incoming, none, outgoing"),
        ("[archive a]\npath = x\ndomain = *.example\n", "in.ini:3: [archive a] domain = *.example: "
         "*.example is no domain name: '*' is no label of letters, digits and inner hyphens"),
        ("[domain *]\n", "in.ini:1: [domain *]: primary is missing: the real mail server of this domain"),
        ("[domain *]\nprimary = 192.0.2.1\nsubdomains = yes\n",
         "in.ini:3: [domain *] subdomains = yes: [domain *] is every name already; leave it out"),
        ("[domain *.a.example]\n", "in.ini:1: [domain *.a.example]: * stands alone: [domain *] is every domain; "
         "for all names below a.example write subdomains = yes in [domain a.example]"),
        ("[domain mx*.example]\n", "in.ini:1: [domain mx*.example]: * stands alone: [domain *] is every domain"),
        (HERE + "except = b.a.example\n", "in.ini:3: [domain a.example] except = b.a.example: "
         "only [domain *] has exceptions; a name below a.example has a section of its own"),
        ("[domain *]\nprimary = 192.0.2.1\nexcept = a_b.example\n", "in.ini:3: [domain *] except = a_b.example: "
         "a_b.example is no domain name: 'a_b' is no label of letters, digits and inner hyphens"),
        (HERE + "outbound = relay\n" + RELAY.replace("r]", "relay-a]"),
         "in.ini:3: [domain a.example] outbound = relay: there is no [outbound relay]; did you mean relay-a?"),
        (HERE + "outbound = r\n" + RELAY,
         "in.ini:3: [domain a.example] outbound = r: [outbound r] takes turns for everybody; give it mode = domains"),
        (HERE + "outbound = r\n" + RELAY + "mode = domian\n",
         "in.ini:6: [outbound r] mode = domian: domian is not known here; did you mean domains?"),
        (HERE + "outbound = relay a\n", "in.ini:3: [domain a.example] outbound = relay a: "
         "relay a is no name: letters, digits, - and _, at most 40"),
        (HERE + "messages_per_hour = -1\n", "in.ini:3: [domain a.example] messages_per_hour = -1: "
         "must be a whole number from 0 to 1000000"),
        ("[backup]\nprimaries = mail.example\n",
         "in.ini:2: [backup] primaries = mail.example: mail.example is no IP address"),
        ("[backup]\nretry = 8640*\n", "in.ini:2: [backup] retry = 8640*: "
         "lifetime 5d is over before the first wait of retry, 6d"),
        ("[priority]\nover_size = 0\n", "in.ini:2: [priority] over_size = 0: must be a whole number from 1 to 10"),
        ("[relay]\nallow = whitelist\n", "in.ini:2: [relay] allow = whitelist: whitelist is no IP address"),
        ("[console]\nlisten = tcp:25\n",
         "in.ini:2: [console] listen = tcp:25: on tcp:25 we hear strangers: [gateway] listen has it too"),
        ("[console]\nlisten = ssl:9998\n",
         "in.ini:2: [console] listen = ssl:9998: ssl:9998 needs [tls] certificate, which is empty"),
        ("[console]\npassword = x\n",
         "in.ini:2: [console] password = (hidden): username is missing: password is of no use without it"),
    ],
)  # fmt: skip
def test_one_thing_wrong(tmp_path: Path, text: str, problem: str) -> None:
    assert wrong(tmp_path, text) == [problem]


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    said = wrong(
        tmp_path,
        "[backup]\nprimaries = x\n[priority]\nnull_sender = 11\n[outbound r]\ntls = maybe\n"
        "[archive a]\nrule = x\n[domain *]\nexcept = _\n[domain b.example]\nprimary = 192.0.2.1\noutbound = q\n",
    )
    assert [int(line.split(":")[1]) for line in said] == [2, 4, 5, 6, 7, 8, 9, 10, 13]


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"", 0o600, "the first line of s is empty"),
        (b"\nsecond\n", 0o600, "the first line of s is empty"),
        (b"\xff\n", 0o600, "the first line of s is not UTF-8"),
        (b"a\x00b\n", 0o600, "a password is at most 1024 printable characters"),
        (b"x" * 1025, 0o600, "a password is at most 1024 printable characters"),
        (b"x" * 2**20, 0o600, "a password is at most 1024 printable characters"),
        (b"good\n", 0o604, "s can be read by everybody here; chmod o-r s"),
        (None, 0, "s cannot be read: No such file or directory"),
    ],
)
def test_secrets_in_files_that_will_not_do(tmp_path: Path, content: bytes | None, mode: int, said: str) -> None:
    if content is not None:
        (tmp_path / "s").write_bytes(content)
        (tmp_path / "s").chmod(mode)
    assert wrong(tmp_path, RELAY + "username = me\npassword = file:s\n") == [
        f"in.ini:4: [outbound r] password = file:s: {said}"
    ]


@pytest.mark.parametrize(("name", "said"), [("", "names no file; write file:/path"), (".", "{} is no file")])
def test_what_is_no_file(tmp_path: Path, name: str, said: str) -> None:
    text = f"[console]\nusername = me\npassword = file:{name}\n"
    assert wrong(tmp_path, text) == [f"in.ini:3: [console] password = file:{name}: {said.format(tmp_path)}"]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (said,) = wrong(tmp_path, "[console]\nusername = me\npassword = file:pipe\n")
    assert said.endswith("pipe is no file")


def test_included_files_name_secrets_from_the_folder_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "o.ini").write_text(RELAY + "username = me\npassword = file:console.secret\n")
    settings = load(written(tmp_path, "[gateway]\ninclude = conf.d/*.ini\n"))
    assert settings.outbound[0].password == "of the console"


@pytest.mark.parametrize(
    "text",
    [
        RELAY + "username = me\npassword = abcdef\n more\n",
        RELAY + "username = me\npasword = abcdef\n",
        RELAY + "username = me\npassword = abcdef\npassword = abcdefg\n",
        RELAY + "username = me\npassword abcdef\n",
        RELAY + "password = abcdef\n",
        "[relay]\npassword = abcdef\n",
    ],
)
def test_no_problem_repeats_a_password(tmp_path: Path, text: str) -> None:
    said = " ".join(wrong(tmp_path, text))
    assert "abcdef" not in said
    assert "(hidden)" in said


def test_a_password_may_hold_what_it_likes(tmp_path: Path) -> None:
    def password(text: str) -> Any:
        return load(written(tmp_path, RELAY + f"username = me\npassword = {text}\n")).outbound[0].password

    for text in ("#1; a = b", "pässword", '"quoted"', "[x]"):
        assert password(text) == text
