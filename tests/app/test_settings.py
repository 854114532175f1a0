"""The file as a whole: what it makes of the settings, and that everything wrong is said at once, each with its line."""

import itertools
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from inboundmx.app.effective import as_ini, effective
from inboundmx.app.settings import BadSettings, load, own_name
from inboundmx.checks.api import Case, Option
from inboundmx.model.custody import Host
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.settings import (
    BACKUP_RETRY,
    DEFAULT_LEVELS,
    FORWARD_RETRY,
    MB,
    DeliverySettings,
    GreylistingSettings,
    LevelSettings,
    Retry,
    Settings,
    SmtpSettings,
)
from inboundmx.model.verdict import Action, Level


class Weather:
    """A kind of check with outcomes that decide, so that their weights are seen to be filled in."""

    kind: ClassVar[str] = "weather"
    stage: ClassVar[Stage] = Stage.CONNECT
    outcomes: ClassVar[frozenset[str]] = frozenset({"sunny", "rain", "storm"})
    after: ClassVar[frozenset[str]] = frozenset()
    options: ClassVar[tuple[Option, ...]] = (
        Option("place", "text", "", "where", required=True),
        Option("patience", "span", 60.0, "how long"),
        Option("codes", "codes", (), "further words"),
    )
    weights: ClassVar[dict[str, Any]] = {"storm": "reject", "error": "defer"}

    def __init__(self, options: Any) -> None:
        if options["place"] == "moon":
            raise ValueError("place = moon has no weather")

    @classmethod
    def words(cls, options: Any) -> frozenset[str]:
        return cls.outcomes | {meaning.word for meaning in options["codes"]}

    async def examine(self, case: Case) -> Finding:
        return Finding("sunny")


KINDS: dict[str, Any] = {"weather": Weather}


def plain(secret: str) -> str:
    """For files that are read again."""
    return secret


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str, name: str = "in.ini") -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def read(write: Any) -> Any:
    return lambda text: load(write(text), KINDS)


@pytest.fixture
def wrong(write: Any, tmp_path: Path) -> Any:
    """What is said of a file, the folder left out."""

    def wrong(text: str) -> list[str]:
        with pytest.raises(BadSettings) as raised:
            load(write(text), KINDS)
        return [str(problem).replace(f"{tmp_path}/", "") for problem in raised.value.problems]

    return wrong


def test_an_empty_file_is_all_defaults(read: Any) -> None:
    settings = read("")
    assert settings.smtp == SmtpSettings()
    assert settings.delivery == DeliverySettings()
    assert settings.levels == DEFAULT_LEVELS
    assert settings.domains == {}
    assert settings.checks == ()


@pytest.fixture
def unnamed() -> Iterator[None]:
    """The machine's name is looked up anew, and not remembered."""
    own_name.cache_clear()
    yield
    own_name.cache_clear()


@pytest.mark.usefixtures("unnamed")
def test_names_that_are_left_out_follow_from_the_machine(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: "MX7.Example.net")
    settings = read("")
    assert settings.gateway.hostname == "mx7.example.net"
    assert settings.gateway.postmaster == "postmaster@mx7.example.net"


@pytest.mark.usefixtures("unnamed")
def test_a_machine_without_a_domain_keeps_its_own_name(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: "localhost")
    monkeypatch.setattr("socket.gethostname", lambda: "mx7")
    assert read("").gateway.hostname == "mx7"


FULL = """
[gateway]
Hostname = mx1.example.net
listen = tcp:2525:interface=127.0.0.1
  tcp:2526
data = data
hostnames = 192.0.2.1=mx1.example.net
addresses = 192.0.2.1-192.0.2.2
workers = 0

[smtp]
max_message_size = 40MB
banner_delay = 2s

[log]
to = log/mail.log
format = text

[delivery]
lifetime = 3d
tls = required

[blocking]
incoming_threshold = 50

[greylisting]
block = 90s
pass = 2h
network = 20/56
key = domain
auto_allow = 0
bypass = 198.51.100.0/24 203.0.113.7
except_recipients = user@bücher.example *@lists.example

[level medium]
action = quarantine
[level high]
threshold = 25

[check sky]
use = weather
place = here
patience = 90s
weight.rain = 2.5
counts_for = filtering blocking
skip_for = 192.0.2.0/28

[domain Bücher.Example]
primary = 192.0.2.10 192.0.2.11:2525
tls = verified
retry = 5/10*
level.low.threshold = 1
level.low.action = tag "LOW:", header "X-Low: yes"
blocking.incoming_threshold = 12.5
weight.sky.rain = defer

[domain backup.example]
mode = backup
primary = lmtp:127.0.0.1:24
"""


def test_a_full_file(read: Any, tmp_path: Path) -> None:
    settings: Settings = read(FULL)
    assert settings.gateway.hostname == "mx1.example.net"
    assert settings.gateway.listen == ("tcp:2525:interface=127.0.0.1", "tcp:2526")
    assert settings.gateway.data == str(tmp_path / "data")
    assert settings.gateway.addresses == ("192.0.2.1", "192.0.2.2")
    assert settings.gateway.workers == 0
    assert settings.smtp.max_message_size == 40 * MB
    assert settings.smtp.banner_delay == 2.0
    assert settings.greylisting == GreylistingSettings(
        block=90.0,
        pass_=7200.0,
        network=(20, 56),
        auto_allow=0,
        bypass=(ip_network("198.51.100.0/24"), ip_network("203.0.113.7")),
        except_recipients=("user@xn--bcher-kva.example", "*@lists.example"),
        key="domain",
    )
    assert settings.log.to == str(tmp_path / "log/mail.log")
    assert settings.levels == (
        LevelSettings(Level.NONE),
        LevelSettings(Level.LOW, 10.0),
        LevelSettings(Level.MEDIUM, 20.0, (Action("quarantine"),)),
        LevelSettings(Level.HIGH, 25.0, (Action("reject"),)),
    )


def test_a_domain_says_its_own_and_takes_the_rest_from_everybody(read: Any) -> None:
    settings: Settings = read(FULL)
    domain = settings.domain("xn--bcher-kva.example")
    assert domain is not None
    assert domain.name == "xn--bcher-kva.example"
    assert domain.primary == (Host("192.0.2.10"), Host("192.0.2.11", 2525))
    assert domain.tls == "verified"
    assert domain.retry == Retry((300.0, 600.0), repeat_last=True)
    assert domain.lifetime == 3 * 86400.0
    assert domain.when_exhausted == "bounce"
    assert domain.levels[Level.LOW] == LevelSettings(
        Level.LOW, 1.0, (Action("tag", "LOW:"), Action("header", "X-Low: yes"))
    )
    assert domain.levels[Level.MEDIUM] == settings.levels[Level.MEDIUM]
    assert domain.blocking.incoming_threshold == 12.5
    assert domain.weights == {("sky", "rain"): "defer"}


def test_a_backup_domain_waits_and_then_holds(read: Any) -> None:
    domain = read(FULL).domains["backup.example"]
    assert (domain.retry, domain.when_exhausted) == (BACKUP_RETRY, "hold")
    assert domain.tls == "required"
    assert domain.blocking.incoming_threshold == 50.0


def test_the_schedule_of_backup_gives_way_only_to_the_domain_itself(read: Any) -> None:
    domains = read(
        "[delivery]\nretry = 5\n[domain a.example]\nmode = backup\nprimary = 192.0.2.1\n"
        "[domain b.example]\nmode = backup\nprimary = 192.0.2.1\nretry = 7\nwhen_exhausted = bounce\n"
        "[domain c.example]\nprimary = 192.0.2.1\n"
    ).domains
    assert domains["a.example"].retry == BACKUP_RETRY
    assert (domains["b.example"].retry, domains["b.example"].when_exhausted) == (Retry((420.0,)), "bounce")
    assert domains["c.example"].retry == Retry((300.0,))


def test_a_check_has_every_outcome_and_every_option(read: Any) -> None:
    (check,) = read(FULL).checks
    assert (check.name, check.kind) == ("sky", "weather")
    assert check.weights == {
        "sunny": 0.0, "rain": 2.5, "storm": "reject", "error": "defer", "timeout": 0.0,
    }  # fmt: skip
    assert check.options == {"place": "here", "patience": 90.0, "codes": ()}
    assert check.counts_for == {"filtering", "blocking"}
    assert [str(network) for network in check.skip_for] == ["192.0.2.0/28"]


def test_what_is_effective_reads_back_as_the_same(read: Any, write: Any) -> None:
    text = "[check dear]\nuse = headers\nheader = Subject\nvalue = dear\nweight.match = -1.5\n"
    first = load(write(FULL.replace("use = weather\nplace = here\npatience = 90s\nweight.rain = 2.5", text[13:])
                 .replace("weight.sky.rain", "weight.sky.match")))  # fmt: skip
    assert load(write(as_ini(effective(first, plain)), "again.ini")) == first


def test_the_fingerprint_follows_what_is_effective_alone(read: Any) -> None:
    base = read(FULL).fingerprint
    assert len(base) == 12
    assert read("# a remark\n" + FULL.replace("40MB", "40960KB")).fingerprint == base
    others = {
        read(FULL.replace(old, new)).fingerprint
        for old, new in (
            ("40MB", "41MB"), ("weight.rain = 2.5", "weight.rain = 2.6"), ("weight.sky.rain = defer", ""),
            ("place = here", "place = there"), ("counts_for = filtering blocking", ""),
        )
    }  # fmt: skip
    assert len(others | {base}) == 6


def test_files_are_included_and_read_in_order(read: Any, write: Any, tmp_path: Path) -> None:
    write("[domain b.example]\nprimary = 192.0.2.2\n", "conf.d/b.ini")
    write("[domain a.example]\nprimary = 192.0.2.1\n[tls]\ncertificate = x.pem\n", "conf.d/a.ini")
    settings = read("[gateway]\ninclude = conf.d/*.ini\n")
    assert list(settings.domains) == ["a.example", "b.example"]
    assert settings.tls.certificate == str(tmp_path / "x.pem")


def test_a_pattern_that_names_the_file_itself_does_not_read_it_twice(read: Any, write: Any) -> None:
    write("[domain a.example]\nprimary = 192.0.2.1\n", "a.ini")
    assert list(read("[gateway]\ninclude = *.ini\n").domains) == ["a.example"]


def test_a_section_in_two_files_names_both(wrong: Any, write: Any, tmp_path: Path) -> None:
    write("\n[smtp]\nmax_recipient = 5\n", "more.ini")
    assert wrong("[gateway]\ninclude = more.ini\n[smtp]\n") == [
        "more.ini:2: [smtp]: this section stands in in.ini:3 already; make them one",
        "more.ini:3: [smtp] max_recipient = 5: there is no key max_recipient here; did you mean max_recipients?",
    ]


def test_an_included_file_that_is_missing(wrong: Any) -> None:
    assert wrong("[gateway]\ninclude = more.ini conf.d/*.ini\n") == [
        "in.ini:2: [gateway] include = more.ini conf.d/*.ini: there is no file more.ini"
    ]


HERE = "[domain a.example]\nprimary = 192.0.2.1\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[dnss]\n", "in.ini:1: [dnss]: there is no such section; did you mean dns?"),
        ("[Gateway]\n", "in.ini:1: [Gateway]: there is no such section; did you mean gateway?"),
        ("[smtp one]\n", "in.ini:1: [smtp one]: takes no name; write [smtp]"),
        ("[domain]\n", "in.ini:1: [domain]: needs a name: [domain NAME]"),
        ("[greylisting]\npass_ = 15m\n",
         "in.ini:2: [greylisting] pass_ = 15m: there is no key pass_ here; did you mean pass?"),
        ("[greylisting]\nblock = 6h\n",
         "in.ini:2: [greylisting] block = 6h: no retry could ever pass: pass must be longer than block"),
        ("[abuse]\n", "in.ini:1: [abuse]: needs a name: [abuse NAME]"),
        ("[abuse connections]\nlimit = 200\n",
         "in.ini:1: [abuse connections]: nothing would follow: give it block or notify"),
        ("[abuse connections]\nblock = 1h\n",
         "in.ini:1: [abuse connections]: limit is missing: how many are suffered in a window"),
        ("[abuse connection]\nlimit = 200\nblock = 1h\n",
         "in.ini:1: [abuse connection]: there is no kind of rule connection: give it use; did you mean connections?"),
        ("[abuse slow]\nuse = conections\nlimit = 200\nblock = 1h\n",
         "in.ini:2: [abuse slow] use = conections: conections is not known here; did you mean connections?"),
        ("[abuse connections]\nlimit = 0\nblock = 1h\n",
         "in.ini:2: [abuse connections] limit = 0: must be a whole number from 1 to 1000000"),
        ("[abuse same-size]\nlimit = 9\nnotify = a@b.example\nblock = 1h\n",
         "in.ini:4: [abuse same-size] block = 1h: who sends for others is not blocked for the size of a message: "
         "notify tells somebody"),
        ("[abuse same-size]\nlimit = 9\n",
         "in.ini:1: [abuse same-size]: notify is missing: who is written to about it, once an hour for each who "
         "exceeds it; empty: only the log tells"),
        ("[abuse connections]\nlimit = 9\nblock = 1h\nnotify = nobody\n",
         "in.ini:4: [abuse connections] notify = nobody: nobody is no mail address; write name@domain"),
        ("[domain a_b.example]\n", "in.ini:1: [domain a_b.example]: a_b.example is no domain name: "
         "'a_b' is no label of letters, digits and inner hyphens"),
        ("[domain a.example]\n",
         "in.ini:1: [domain a.example]: primary is missing: the real mail server of this domain"),
        ("[domain a.example]\nprimary =\n",
         "in.ini:1: [domain a.example]: primary is missing: the real mail server of this domain"),
        (HERE + "[domain A.Example]\nprimary = 192.0.2.1\n",
         "in.ini:3: [domain A.Example]: the domain a.example has a section already; make them one"),
        ("[smtp]\nmax_conections = 10\n",
         "in.ini:2: [smtp] max_conections = 10: there is no key max_conections here; did you mean max_connections?"),
        ("[smtp]\nsession_timeout = 15\n",
         "in.ini:2: [smtp] session_timeout = 15: a bare number has no unit; write 15m or 15s"),
        ("[smtp]\nsession_timeout = 15m # long\n", "in.ini:2: [smtp] session_timeout = 15m # long: is no span; "
         "write it like 90s, 15m, 24h or 36d (a comment stands on a line of its own)"),
        ("[smtp]\nsession_timeout = 15m\n max_recipients = 5\n",
         "in.ini:2: [smtp] session_timeout = 15m max_recipients = 5: is no span; "
         "write it like 90s, 15m, 24h or 36d (an indented line continues the value before it)"),
        ("[gateway]\ndata =\n", "in.ini:2: [gateway] data =: must not be empty"),
        ("[gateway]\nlisten = ssl:465\n",
         "in.ini:2: [gateway] listen = ssl:465: ssl:465 needs [tls] certificate, which is empty"),
        ("[tls]\nminimum = 1.1\n", "in.ini:2: [tls] minimum = 1.1: 1.1 is not known here; one of: 1.2, 1.3"),
        ("[relay]\nusers = /x\n", "in.ini:2: [relay] users = /x: names no file; write file:/path"),
        (
            "[submission]\nlisten = tcp:587\n[relay]\nusers = file:/x\n",
            "in.ini:2: [submission] listen = tcp:587: nobody could authenticate there: [tls] certificate is empty",
        ),
        ("[level lo]\n", "in.ini:1: [level lo]: there is no level lo; did you mean low?"),
        ("[level none]\nthreshold = 1\n",
         "in.ini:2: [level none] threshold = 1: none is what remains below low and has no threshold"),
        ("[level high]\nthreshold = 15\n",
         "in.ini:2: [level high] threshold = 15: thresholds must ascend, and medium begins at 20, high at 15"),
        ("[level low]\nthreshold = 25\n",
         "in.ini:2: [level low] threshold = 25: thresholds must ascend, and low begins at 25, medium at 20"),
        (HERE + "level.low.threshold = 99\n", "in.ini:3: [domain a.example] level.low.threshold = 99: "
         "thresholds must ascend, and low begins at 99, medium at 20"),
        (HERE + "level.lwo.threshold = 9\n", "in.ini:3: [domain a.example] level.lwo.threshold = 9: "
         "there is no key level.lwo.threshold here; did you mean level.low.threshold?"),
        (HERE + "level.low = 9\n", "in.ini:3: [domain a.example] level.low = 9: there is no key level.low here; "
         "did you mean level.low.action?"),
        (HERE + "blocking.incoming = 9\n", "in.ini:3: [domain a.example] blocking.incoming = 9: "
         "there is no key blocking.incoming here; did you mean blocking.incoming_threshold?"),
        (HERE + "greylisting = maybe\n",
         "in.ini:3: [domain a.example] greylisting = maybe: is neither yes nor no (on, off, true, false)"),
        (HERE + "priority = 11\n", "in.ini:3: [domain a.example] priority = 11: must be a whole number from 1 to 10"),
        (HERE + "retry = 60*\nlifetime = 30m\n", "in.ini:4: [domain a.example] lifetime = 30m: "
         "lifetime 30m is over before the first wait of retry, 1h"),
        ("[delivery]\nlifetime = 5m\n" + HERE + HERE.replace("a.", "b."), "in.ini:2: [delivery] lifetime = 5m: "
         "lifetime 5m is over before the first wait of retry, 15m"),
        ("[check x]\n", "in.ini:1: [check x]: use is missing: which kind of check; one of: weather"),
        ("[check x]\nuse = wether\n", "in.ini:2: [check x] use = wether: "
         "there is no kind of check wether; did you mean weather?"),
        ("[check x.y]\nuse = weather\n", "in.ini:1: [check x.y]: x.y cannot be the name of a check: "
         "letters, digits, - and _, at most 40"),
        ("[check x]\nuse = weather\nplace = a\n[check X]\nuse = weather\nplace = b\n",
         "in.ini:4: [check X]: a check named x stands here already"),
        ("[check x]\nuse = weather\n", "in.ini:1: [check x]: place is missing: where"),
        ("[check x]\nuse = weather\nplace = moon\n", "in.ini:1: [check x]: place = moon has no weather"),
        ("[check x]\nuse = weather\nplace = a\npatience = 5\n",
         "in.ini:4: [check x] patience = 5: a bare number has no unit; write 5m or 5s"),
        ("[check x]\nuse = weather\nplace = a\nplaces = b\n",
         "in.ini:4: [check x] places = b: there is no key places here; did you mean place?"),
        ("[check x]\nuse = weather\nplace = a\nweight.rian = 5\n",
         "in.ini:4: [check x] weight.rian = 5: the check has no outcome rian; did you mean rain?"),
        ("[check x]\nuse = weather\nplace = a\nweight.rain = nan\n",
         "in.ini:4: [check x] weight.rain = nan: is no weight; write a number, reject, defer or quarantine"),
        ("[check x]\nuse = weather\nplace = a\ncounts_for =\n",
         "in.ini:4: [check x] counts_for =: needs filtering, blocking, or filtering blocking"),
        (HERE + "weight.rain = 5\n",
         "in.ini:3: [domain a.example] weight.rain = 5: in a domain a weight is written weight.CHECK.OUTCOME"),
        (HERE + "weight.ski.rain = 5\n[check sky]\nuse = weather\nplace = a\n",
         "in.ini:3: [domain a.example] weight.ski.rain = 5: there is no [check ski]; did you mean sky?"),
        (HERE + "weight.sky.rian = 5\n[check sky]\nuse = weather\nplace = a\n",
         "in.ini:3: [domain a.example] weight.sky.rian = 5: the check sky has no outcome rian; did you mean rain?"),
    ],
)  # fmt: skip
def test_one_thing_wrong(wrong: Any, text: str, problem: str) -> None:
    assert wrong(text) == [problem]


def test_everything_wrong_is_said_at_once_in_order(wrong: Any) -> None:
    said = wrong(
        "[gateway]\n"
        "hostname = mx_1.example\n"
        "workers = 65\n"
        "[smtp]\n"
        "session_timeout = 15\n"
        "max_message_size = 30\n"
        "no equals sign\n"
        "[smpt]\n"
        "[delivery]\n"
        "retry = 15m\n"
        "tls = maybe\n"
        "[level high]\n"
        "action = rejct\n"
        "[domain a.example]\n"
        "recipients = callback\n"
        "weight.z.y = 1\n"
        "[domain a.example]\n"
        "[check x]\n"
        "use = dnsbl\n"
        "[lists]\n"
        "blacklist = 192.0.2\n"
    )
    lines = [int(line.split(":")[1]) for line in said]
    assert lines == [2, 3, 5, 6, 7, 8, 10, 11, 13, 14, 15, 16, 17, 19, 21]


def test_outcomes_that_options_name_have_weights_wherever_the_options_stand(read: Any) -> None:
    settings = read(
        "[check x]\nuse = weather\nplace = a\nweight.hail = 7\ncodes = 127.0.0.2=hail 127.0.0.3=snow\n"
        + HERE
        + "weight.x.snow = 3\n"
    )
    assert settings.checks[0].weights["hail"] == 7.0
    assert settings.checks[0].weights["snow"] == 0.0
    assert settings.domains["a.example"].weights == {("x", "snow"): 3.0}


def test_what_domains_say_of_a_check_that_is_wrong_is_not_called_unknown(wrong: Any) -> None:
    said = wrong("[check x]\nuse = weather\nplace = a\nweight.rain = much\n" + HERE + "weight.x.rain = 3\n")
    assert [line.split(":")[1] for line in said] == ["4"]
    said = wrong("[check spf]\nuse = bayes\n" + HERE + "weight.spf.softfail = 3\n")
    assert [line.split(":")[1] for line in said] == ["2"]


def test_every_pair_of_levels_is_compared(wrong: Any) -> None:
    for low, medium, high in itertools.permutations((1, 2, 3)):
        if (low, medium, high) == (1, 2, 3):
            continue
        text = f"[level low]\nthreshold={low}\n[level medium]\nthreshold={medium}\n[level high]\nthreshold={high}\n"
        assert all("thresholds must ascend" in line for line in wrong(text))


@pytest.mark.parametrize("name", ["", "absent.ini", "broken.ini"])
def test_a_file_that_cannot_be_read_is_one_plain_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.ini").write_bytes(b"[smtp]\n\xff = 1\n")
    with pytest.raises(BadSettings) as raised:
        load(str(tmp_path / name))
    path = str(tmp_path / name).rstrip("/")
    assert str(raised.value) == {
        "": f"{path}: is a folder, not a file",
        "absent.ini": f"{path}: there is no such file; inboundmx init writes a first one",
        "broken.ini": f"{path}:2: octet 0xff is not UTF-8; save the file as UTF-8",
    }[name]


CONTRACT = """
[gateway]
hostname = mx1.example.net
postmaster = postmaster@example.net
listen = tcp:25
data = /var/lib/inboundmx
user =
workers = 1
hostnames = 192.0.2.1=mx1.example.net 192.0.2.2=mx2.example.org
addresses =
[smtp]
session_timeout = 15m
command_timeout = 120s
max_connections = 1000
max_connections_per_ip = 50
max_bad_commands = 8
max_bad_recipients = 20
max_hop_count = 50
max_message_size = 30MB
max_recipients = 200
banner_delay = 0s
[tls]
certificate = /etc/inboundmx/tls/fullchain.pem
private_key = /etc/inboundmx/tls/key.pem
minimum = 1.2
[dns]
servers = system
timeout = 5s
[storage]
url = sqlite
[log]
to = stdout
format = json
[delivery]
retry = 15/30/60/90/240*
lifetime = 5d
dns_error_attempts = 2
delay = 0s
handover = cut-through
handover_deadline = 30s
tempfail = spool
max_connections = 50
max_connections_per_host = 20
command_timeout = 60s
tls = opportunistic
delay_notice = 4h
bounce = verified
[domain example.com]
mode = forward
primary = 192.0.2.10 192.0.2.11:2525 [2001:db8::1]:25
balance = failover
recipients = any
greylisting = yes
priority = 5
when_exhausted = bounce
level.medium.action = quarantine
level.medium.threshold = 15
weight.offers.match = 5
[relay]
allow = nobody
[greylisting]
block = 15m
pass = 360m
expire = 36d
key = network
network = 24/64
[check greylist]
use = greylist
weight.new = defer
weight.early = defer
[check offers]
use = headers
header = Subject
pattern = (?i)offer
timeout = 4s
counts_for = filtering blocking
weight.match = 15
[level none]
action = deliver
[level low]
threshold = 10
action = deliver
[level medium]
threshold = 20
action = tag "SPAM-MED:"
[level high]
threshold = 30
action = reject
[blocking]
incoming_threshold = 30
outgoing_threshold = 30
"""


def test_the_sections_promised_to_operators_load_and_are_mostly_the_defaults(write: Any) -> None:
    settings = load(write(CONTRACT))
    assert settings.smtp == SmtpSettings()
    assert settings.delivery == DeliverySettings()
    assert settings.levels == DEFAULT_LEVELS
    assert settings.greylisting == GreylistingSettings()
    assert settings.domains["example.com"].greylisting
    assert settings.domains["example.com"].weights == {("offers", "match"): 5.0}


ROUTES = """
[backup]
primaries = 192.0.2.10 198.51.100.0/28
[relay]
allow = 192.0.2.0/28 2001:db8::/64
[priority]
over_size = 2
[console]
listen = tcp:9998:interface=127.0.0.1
username = status
password = secret of the console
[outbound relay-a]
mode = domains
server = smtp.relay.example:587 192.0.2.40
username = gateway
password = secret of the relay
tls = required
priority = 2-9
exclusive = no
source_address = 192.0.2.5 2001:db8::5
status_url = http://192.0.2.40:9998/
status_username = status
status_password = secret of its console
[outbound relay-b]
server = 192.0.2.41
enabled = no
[archive all]
path = archive
rule = incoming
[domain example.org]
primary = 192.0.2.1
outbound = Relay-A
subdomains = yes
enabled = no
description = what the board wants
client_facts = xclient
messages_per_hour = 5000
bandwidth_per_hour = 100MB
[domain *]
primary = 192.0.2.1
except = b.example c.example
"""

LINES = (CONTRACT + FULL + ROUTES).splitlines()
CHANGED = st.lists(
    st.one_of(
        st.sampled_from(LINES),
        st.sampled_from(LINES).map(lambda line: line.replace("e", "", 1)),
        st.sampled_from(LINES).map(lambda line: line.partition("=")[0] + "= "),
        st.sampled_from(LINES).map(lambda line: f" {line}"),
        st.text(max_size=12),
    ),
    max_size=25,
)


@examples(max_examples=150, deadline=None)
@given(CHANGED)
def test_a_file_is_settings_or_problems_and_what_is_settings_reads_back(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.ini"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    try:
        read = load(str(path))
    except BadSettings as bad:
        assert bad.problems
        assert "\n" not in "".join(problem.text for problem in bad.problems)
        return
    path.write_text(as_ini(effective(read, plain)), encoding="utf-8")
    assert load(str(path)) == read


def test_a_forward_domain_has_the_usual_schedule(read: Any) -> None:
    assert read(HERE).domains["a.example"].retry == FORWARD_RETRY
