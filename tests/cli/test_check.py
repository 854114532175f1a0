"""What ``inboundmx check`` prints, and the status it leaves with."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from inboundmx.app.calling import Call
from inboundmx.app.calling_lists import ListCall
from inboundmx.app.calling_outbound import OutboundCall
from inboundmx.app.calling_outside import OutsideCalls
from inboundmx.app.calling_recipients import RecipientsCall
from inboundmx.cli import check
from inboundmx.model.custody import Host

GOOD = """
[gateway]
hostname = mx1.example.net
postmaster = postmaster@example.com
data = data
[domain example.com]
mode = backup
primary = 192.0.2.10 [2001:db8::1]:26
recipients = any
bounce = always
level.medium.threshold = 15
level.medium.action = quarantine
blocking.incoming_threshold = 40
weight.offers.match = defer
[check offers]
use = headers
header = Subject
value = offer
weight.match = 12.5
counts_for = filtering blocking
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command on a file; ``calls`` is what the primaries do, ``relays`` what they say to a stranger's mail,
    ``outbound`` what the servers do that mail leaves by, ``recipients`` the lists of them, ``lists`` those in DNS."""

    def run(
        text: str,
        *options: str,
        calls: dict[Host, Call] | None = None,
        relays: dict[Host, Call] | None = None,
        outbound: list[OutboundCall] | None = None,
        recipients: list[RecipientsCall] | None = None,
        lists: list[ListCall] | None = None,
    ) -> int:
        path = tmp_path / "in.ini"
        path.write_text(text, encoding="utf-8")

        def call_all(hosts: Any, hello: str, encrypted: Any) -> dict[Host, Call]:
            assert calls is not None, "offline must not call"
            assert hello == "mx1.example.net"
            return {host: calls.get(host, Call(host, True, "220 here")) for host in hosts}

        def open_relays(hosts: Any, hello: str) -> dict[Host, Call]:
            assert relays is not None, "only primaries of [domain *] are tempted"
            return {host: relays[host] for host in hosts if host in relays}

        def call_outside(settings: Any) -> OutsideCalls:
            assert calls is not None, "offline must not call"
            return OutsideCalls(outbound or [], recipients or [], lists or [])

        monkeypatch.setattr(check, "call_all", call_all)
        monkeypatch.setattr(check, "open_relays", open_relays)
        monkeypatch.setattr(check, "call_outside", call_outside)
        parser = argparse.ArgumentParser()
        parser.add_argument("--config")
        check.register(parser.add_subparsers())
        args = parser.parse_args(["--config", str(path), "check", *options])
        status: int = args.run(args)
        return status

    return run


def test_offline(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(GOOD, "--offline") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"mx1.example.net listens on tcp:25, its files are in {tmp_path}/data",
        "postmaster postmaster@example.com; no STARTTLS: [tls] certificate is empty; messages up to 30MB",
    ]
    assert lines[4:11] == [
        "example.com: backup to 192.0.2.10:25 [2001:db8::1]:26 (failover), tls opportunistic",
        "  handover cut-through within 30s; priority 5; recipients any",
        "  retry 10/10/10/1440: gives up after 24.5 h (5 attempts), then held",
        "  level medium from 15: quarantine",
        "  blocking from 40 on",
        "  offers=match is worth defer",
        "",
    ]
    assert lines[11:-2] == [
        "Outgoing mail: notices and redirected mail of our own",
        "  retry 15/30/60/90/240*: gives up after 5 d, then bounced (verified)",
        "  goes directly to the mail servers of its domain (MX)",
        "",
        "Levels, by the filtering sum",
        "  level       from  action",
        "  none    the rest  deliver",
        "  low           10  deliver",
        '  medium        20  tag "SPAM-MED:"',
        "  high          30  reject",
        "",
        "Blocking sum: refused from 30 on (outgoing 30)",
        "",
        "Checks and what their outcomes are worth",
        "  check   use      outcome  weight  counts for",
        "  offers  headers  absent        0  filtering blocking",
        "  offers  headers  error         0  filtering blocking",
        "  offers  headers  match      12.5  filtering blocking",
        "  offers  headers  timeout       0  filtering blocking",
    ]
    assert lines[-1].startswith("warning: [domain example.com] mail is held for an operator after 24.5 h")


@pytest.mark.parametrize(
    ("password", "mode", "warned"),
    [("hunter2", 0o644, True), ("hunter2", 0o640, False), ("file:secret", 0o644, False), ("", 0o644, False)],
)
def test_a_password_that_everybody_can_read(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], password: str, mode: int, warned: bool
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    secret.chmod(0o600)
    more = tmp_path / "more.ini"
    user = "username = me\n" if password else ""
    more.write_text(f"[outbound a]\nserver = relay.example\n{user}password = {password}\n")
    more.chmod(mode)
    assert run(GOOD.replace("data = data", "data = data\ninclude = more.ini"), "--offline") == 0
    said = capsys.readouterr().out
    assert (f"warning: [outbound a] password stands in {more}, which everybody here can read" in said) is warned
    assert "hunter2" not in said


def test_everybody_answers(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(GOOD, calls={}) == 0
    assert capsys.readouterr().out.split("Primaries\n")[1].splitlines()[:3] == [
        "  domain       primary           answers",
        "  example.com  192.0.2.10:25     yes      220 here",
        "  example.com  [2001:db8::1]:26  yes      220 here",
    ]


def test_one_does_not_answer(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    host = Host("192.0.2.10")
    assert run(GOOD, calls={host: Call(host, False, "cannot connect: refused")}) == 1
    assert "  example.com  192.0.2.10:25     no       cannot connect: refused\n" in capsys.readouterr().out


def test_a_primary_without_the_tls_that_is_required(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD.replace("mode = backup", "tls = required").replace(" [2001:db8::1]:26", "")
    host = Host("192.0.2.10")
    assert run(text, calls={}) == 1
    assert "does not offer STARTTLS, and tls = required" in capsys.readouterr().out
    assert run(text, calls={host: Call(host, True, "220 x", frozenset({"STARTTLS"}))}) == 0


@pytest.mark.parametrize(
    ("tls", "encryption", "certificate", "said"),
    [
        ("verified", "", "its certificate is bad", "its certificate is bad, and tls = verified"),
        ("verified", "no handshake", "", "no handshake, and tls = verified"),
        ("required", "", "its certificate is bad", ""),
        ("required", "no handshake", "", "no handshake, and tls = required"),
        ("opportunistic", "no handshake", "its certificate is bad", ""),
    ],
)
def test_a_primary_is_judged_by_the_encryption_that_its_domain_wants(
    run: Any, capsys: pytest.CaptureFixture[str], tls: str, encryption: str, certificate: str, said: str
) -> None:
    text = GOOD.replace("mode = backup", f"tls = {tls}").replace(" [2001:db8::1]:26", "")
    host = Host("192.0.2.10")
    call = Call(host, True, "220 x", frozenset({"STARTTLS"}), encryption, certificate)
    assert run(text, calls={host: call}) == (1 if said else 0)
    assert f"{'no' if said else 'yes':<7}  {said or '220 x'}\n" in capsys.readouterr().out


def test_a_wrong_file(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("[smtp]\nmax_recipient = 5\nsession_timeout = 15\n") == 2
    assert capsys.readouterr().err.splitlines() == [
        f"inboundmx: {tmp_path}/in.ini:2: [smtp] max_recipient = 5: there is no key max_recipient here; "
        "did you mean max_recipients?",
        f"inboundmx: {tmp_path}/in.ini:3: [smtp] session_timeout = 15: a bare number has no unit; write 15m or 15s",
    ]


def test_a_wrong_file_as_json(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("[smtp]\nx = 5\n", "--json") == 2
    said = json.loads(capsys.readouterr().out)
    assert said["valid"] is False
    assert len(said["problems"]) == 1


def test_something_local_is_missing(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(GOOD + "[tls]\ncertificate = absent.pem\n", calls={}) == 2
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == (
        f"problem: [tls] certificate {tmp_path}/absent.pem cannot be read: No such file or directory"
    )
    assert captured.err == "inboundmx: the INI is valid, but the gateway will not start\n"


def test_as_json(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    host = Host("192.0.2.10")
    assert run(GOOD, "--json", calls={host: Call(host, False, "gone")}) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["valid"] is True
    assert said["problems"] == []
    assert len(said["warnings"]) == 1
    assert said["gives_up_after_seconds"] == {"example.com": 88200.0}
    assert said["primaries"][0] == {
        "domain": "example.com", "host": "192.0.2.10:25", "answers": False, "detail": "gone",
    }  # fmt: skip
    assert said["primaries"][1]["answers"] is True
    assert said["settings"]["check offers"]["weight.match"] == "12.5"
    assert said["settings"]["smtp"]["session_timeout"] == "15m"
    assert len(said["fingerprint"]) == 12


def test_as_json_offline_the_primaries_are_unknown(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(GOOD, "--json", "--offline") == 0
    assert [each["answers"] for each in json.loads(capsys.readouterr().out)["primaries"]] == [None, None]


def test_without_domains_and_checks(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("[gateway]\nhostname = mx1.example.net\ndata = d\n", "--offline") == 0
    assert "No check runs: there is no [check …] section" in capsys.readouterr().out


ROUTES = """
[gateway]
hostname = mx1.example.net
postmaster = postmaster@example.com
data = data
[backup]
primaries = 192.0.2.10 198.51.100.0/28
[relay]
allow = 192.0.2.0/28
[outbound relay-a]
mode = domains
server = smtp.relay.example:587
username = gateway
password = not for your eyes
tls = required
priority = 2-9
[outbound relay-b]
server = 192.0.2.40 192.0.2.41
exclusive = no
[outbound relay-c]
server = 192.0.2.42
enabled = no
description = the old one
[archive board]
domain = example.com
path = archive
rule = outgoing
[domain example.com]
primary = 192.0.2.20
subdomains = yes
outbound = relay-a
description = the board's own
client_facts = xclient
messages_per_hour = 5000
bandwidth_per_hour = 100MB
[domain old.example]
primary = 192.0.2.21
enabled = no
[domain *]
mode = backup
primary = 192.0.2.22
except = a.example b.example
"""


def test_routes(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ROUTES, "--offline") == 0
    captured = capsys.readouterr().out
    lines = captured.splitlines()
    assert lines[4 : lines.index("Levels, by the filtering sum") - 1] == [
        "example.com and all names below it: forward to 192.0.2.20:25 (failover), tls opportunistic",
        "  the board's own",
        "  handover cut-through within 30s; priority 5; recipients learned callout",
        "  retry 15/30/60/90/240*: gives up after 5 d, then bounced (verified)",
        "  XCLIENT tells the primaries who the client is, where they offer it",
        "  mail it sends leaves by relay-a",
        "  at most 5000 messages, 100MB an hour",
        "",
        "old.example: forward to 192.0.2.21:25 (failover), tls opportunistic",
        "  switched off: mail for it is refused, what is in the spool waits",
        "  handover cut-through within 30s; priority 5; recipients learned callout",
        "  retry 15/30/60/90/240*: gives up after 5 d, then bounced (verified)",
        "",
        "every other domain but a.example b.example: backup to 192.0.2.22:25 (failover), tls opportunistic",
        "  handover cut-through within 30s; priority 5; recipients learned callout",
        "  retry 10/10/10/1440: gives up after 24.5 h (5 attempts), then held",
        "",
        "Backup MX of any other domain whose MX names us and, with better preference, one of the primaries",
        "  primaries 192.0.2.10/32 198.51.100.0/28; we are mx1.example.net and this machine",
        "  retry 10/10/10/1440: gives up after 24.5 h (5 attempts), then held",
        "",
        "Outgoing mail: of 192.0.2.0/28, and notices and redirected mail of our own",
        "  retry 15/30/60/90/240*: gives up after 5 d, then bounced (verified)",
        "  outbound  server                       takes                                               priority  tls"
        "            as",
        "  relay-a   smtp.relay.example:587       what is sent by example.com and all names below it  2-9       "
        "required       gateway",
        "  relay-b   192.0.2.40:25 192.0.2.41:25  its turn of all mail                                1-10"
        "      opportunistic  -        after direct delivery failed",
        "  relay-c   192.0.2.42:25                its turn of all mail                                1-10"
        "      opportunistic  -        switched off; the old one",
        "",
        "Archives",
        "  archive  keeps     of           in",
        f"  board    outgoing  example.com  {tmp_path}/archive",
    ]
    assert "not for your eyes" not in captured


def test_servers_that_mail_leaves_by(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [
        OutboundCall("relay-a", Host("smtp.relay.example", 587), "", True, "TLSv1.3, authenticated as gateway"),
        OutboundCall("relay-b", Host("192.0.2.40"), "192.0.2.5", False, "no connection"),
    ]
    assert run(ROUTES, calls={}, relays={}, outbound=answers[:1]) == 0
    capsys.readouterr()
    assert run(ROUTES, calls={}, relays={}, outbound=answers) == 1
    assert capsys.readouterr().out.split("\nOutbound\n")[1].splitlines()[:3] == [
        "  outbound  server                  from       answers",
        "  relay-a   smtp.relay.example:587  any        yes      TLSv1.3, authenticated as gateway",
        "  relay-b   192.0.2.40:25           192.0.2.5  no       no connection",
    ]
    assert run(ROUTES, "--json", calls={}, relays={}, outbound=answers) == 1
    said = capsys.readouterr().out
    assert json.loads(said)["outbound"][1] == {
        "outbound": "relay-b", "server": "192.0.2.40:25", "source_address": "192.0.2.5", "answers": False,
        "detail": "no connection",
    }  # fmt: skip
    assert "not for your eyes" not in said
    assert json.loads(said)["settings"]["outbound relay-a"]["password"] == "(hidden)"


def test_lists_of_recipients(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        RecipientsCall("example.com", "file:/etc/people", True, "knows postmaster@example.com"),
        RecipientsCall("example.com", "https://people.example/list", False, "gives an answer without a length"),
    ]
    assert run(GOOD, calls={}, recipients=asked[:1]) == 0
    capsys.readouterr()
    assert run(GOOD, calls={}, recipients=asked) == 1
    assert capsys.readouterr().out.split("\nRecipients\n")[1].splitlines()[:3] == [
        "  domain       list                         answers",
        "  example.com  file:/etc/people             yes      knows postmaster@example.com",
        "  example.com  https://people.example/list  no       gives an answer without a length",
    ]
    assert run(GOOD, "--json", calls={}, recipients=asked) == 1
    assert json.loads(capsys.readouterr().out)["recipients"][0] == {
        "domain": "example.com", "list": "file:/etc/people", "answers": True, "detail": "knows postmaster@example.com",
    }  # fmt: skip


def test_a_primary_that_makes_us_an_open_relay(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    host = Host("192.0.2.22")
    relays = {host: Call(host, True, "250 ok")}
    sentence = (
        "[domain *] primary 192.0.2.22:25 accepts mail for any domain from us (250 ok): we would be an open relay"
    )
    assert run(ROUTES, calls={}, relays=relays) == 2
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == f"problem: {sentence}"
    assert captured.err == ""
    assert run(ROUTES, "--json", calls={}, relays=relays) == 2
    assert json.loads(capsys.readouterr().out)["problems"] == [sentence]


def test_who_does_not_answer_is_not_tempted_and_who_is_switched_off_is_not_called(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = {Host("192.0.2.22"): Call(Host("192.0.2.22"), False, "gone")}
    assert run(ROUTES, calls=gone, relays={Host("192.0.2.22"): Call(Host("192.0.2.22"), True, "250 ok")}) == 1
    captured = capsys.readouterr().out
    assert "we would be an open relay" not in captured
    assert "192.0.2.21:25 " not in captured.split("Primaries\n")[1]
    assert run(ROUTES.replace("except =", "enabled = no\nexcept ="), calls={}) == 0


def test_what_outcomes_are_worth_to_some_recipients(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    more = (
        "weight.absent = -1\n[recipients bosses]\nmatch = boss@example.com *@sales.example.com\ngreylisting = no\n"
        "weight.offers.match = 3\nlevel.high.action = quarantine\nlevel.low.threshold = 5\n"
        "blocking.incoming_threshold = 60\n[recipients all]\nmatch = example.com\nskip_checks = offers\n"
    )
    assert run(GOOD + more, "--offline") == 0
    text = capsys.readouterr().out
    for line in (
        "recipients bosses: boss@example.com *@sales.example.com", "  greylisting no", "  level low from 5",
        "  level high: quarantine", "  blocking from 60 on", "  offers=absent is worth -1",
        "  offers=match is worth 3 (their own)", "recipients all: *@example.com", "  offers does not count",
    ):  # fmt: skip
        assert f"\n{line}\n" in text


@pytest.mark.parametrize(("answered", "word", "status"), [(True, "yes", 0), (False, "no", 1)])
def test_a_list_in_dns_that_is_not_believed(
    run: Any, capsys: pytest.CaptureFixture[str], answered: bool, word: str, status: int
) -> None:
    lists = [ListCall("bl", "bl.test", answered, "as it is")]
    assert run(GOOD, calls={}, lists=lists) == status
    told = capsys.readouterr().out
    [row] = [line for line in told.splitlines() if "bl.test" in line]
    assert "Lists in DNS" in told and row.split() == ["bl", "bl.test", word, "as", "it", "is"]
    assert run(GOOD, "--json", calls={}, lists=lists) == status
    found = json.loads(capsys.readouterr().out)["lists"]
    assert found == [{"check": "bl", "zone": "bl.test", "answers": answered, "detail": "as it is"}]
