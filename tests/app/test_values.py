"""Each kind of value: what is read, what is refused and how that is said, and that what is written reads back."""

import ipaddress
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.app.values import KINDS, kind
from inboundmx.app.words import Wrong
from inboundmx.checks.list_codes import Meaning
from inboundmx.model.custody import Host
from inboundmx.model.settings import BACKUP_RETRY, FORWARD_RETRY, Retry
from inboundmx.model.verdict import Action


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("span", "90s", 90.0),
        ("span", "15m", 900.0),
        ("span", "24h", 86400.0),
        ("span", "36d", 36 * 86400.0),
        ("span", "0s", 0.0),
        ("span", "2.5s", 2.5),
        ("size", "30MB", 30 * 2**20),
        ("size", "256KB", 256 * 1024),
        ("size", "1 gb", 2**30),
        ("size", "100B", 100),
        ("yes", "on", True),
        ("yes", "False", False),
        ("count", "1", 1),
        ("priority", "10", 10),
        ("number", "-2.5", -2.5),
        ("number", "15", 15.0),
        ("weight", "reject", "reject"),
        ("weight", "defer", "defer"),
        ("weight", "quarantine", "quarantine"),
        ("weight", "-3", -3.0),
        ("retry", "10/10/10/1440", BACKUP_RETRY),
        ("retry", "15/30/60/90/240*", FORWARD_RETRY),
        ("retry", "0.5", Retry((30.0,))),
        ("counts_for", "filtering blocking", frozenset({"filtering", "blocking"})),
        ("hostname", "MX1.Example.NET.", "mx1.example.net"),
        ("hostname", "büro.example", "xn--bro-hoa.example"),
        ("hostname", "", ""),
        ("mailbox", "Post.Master@Example.COM", "Post.Master@example.com"),
        ("mailbox", '"a b"@example.com', '"a b"@example.com'),
        ("pairs", "192.0.2.1=mx1.example.net 2001:DB8::1=mx2.example.org",
         {"192.0.2.1": "mx1.example.net", "2001:db8::1": "mx2.example.org"}),
        ("addresses", "192.0.2.9 192.0.2.1-192.0.2.3 2001:db8::/127",
         ("192.0.2.9", "192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::", "2001:db8::1")),
        ("networks", "192.0.2.0/28 192.0.2.20-192.0.2.21 2001:db8::1",
         (ipaddress.ip_network("192.0.2.0/28"), ipaddress.ip_network("192.0.2.20/31"),
          ipaddress.ip_network("2001:db8::1/128"))),
        ("hosts", "192.0.2.10 192.0.2.11:2525\n[2001:db8::1]:26 [2001:db8::2] 2001:db8::3",
         (Host("192.0.2.10"), Host("192.0.2.11", 2525), Host("2001:db8::1", 26), Host("2001:db8::2"),
          Host("2001:db8::3"))),
        ("hosts", "mail-a.example.com:587 MX.example", (Host("mail-a.example.com", 587), Host("mx.example"))),
        ("hosts", "lmtp:127.0.0.1:24 lmtp:[::1]:24", (Host("127.0.0.1", 24, "lmtp"), Host("::1", 24, "lmtp"))),
        ("hosts", "192.0.2.4/31", (Host("192.0.2.4"), Host("192.0.2.5"))),
        ("hosts", "192.0.2.4-192.0.2.6", (Host("192.0.2.4"), Host("192.0.2.5"), Host("192.0.2.6"))),
        ("prefixes", "24/64", (24, 64)),
        ("prefixes", "8/128", (8, 128)),
        ("actions", "deliver", (Action("deliver"),)),
        ("actions", 'tag "SPAM-MED:", header "X-A:  b, c"',
         (Action("tag", "SPAM-MED:"), Action("header", "X-A: b, c"))),
        ("actions", 'tag "Müll:"', (Action("tag", "Müll:"),)),
        ("actions", 'reject "go away"', (Action("reject", "go away"),)),
        ("actions", "redirect spam@Example.com", (Action("redirect", "spam@example.com"),)),
        ("actions", 'tag "x" ,\nquarantine', (Action("tag", "x"), Action("quarantine"))),
        ("endpoints", "tcp:25 tcp6:25:interface=\\:\\:1\nhaproxy:tcp:26",
         ("tcp:25", "tcp6:25:interface=\\:\\:1", "haproxy:tcp:26")),
        ("endpoints", "unix:/run/x systemd:domain=INET:index=0 ssl:465",
         ("unix:/run/x", "systemd:domain=INET:index=0", "ssl:465")),
        ("dns_servers", "system", ("system",)),
        ("dns_servers", "192.0.2.1:53 192.0.2.1:5353\n2001:DB8::1 [2001:db8::1]:5353",
         ("192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:5353")),
        ("codes", "127.0.0.2-127.0.0.5=listed 127.0.0.10=policy\n127.0.1.0/24=domain 127.0.0.&24=bits",
         tuple(Meaning(ipaddress.IPv4Address(first), ipaddress.IPv4Address(last), *more) for first, last, *more in (
             ("127.0.0.2", "127.0.0.5", "listed"), ("127.0.0.10", "127.0.0.10", "policy"),
             ("127.0.1.0", "127.0.1.255", "domain"), ("127.0.0.0", "127.0.0.255", "bits", 24)))),
        ("codes", "", ()),
        ("regex", r"^\[x\]", r"^\[x\]"),
        ("word:a b", "b", "b"),
        ("maybe_priority", "", None),
        ("maybe_priority", "10", 10),
        ("priorities", "2-9", (2, 9)),
        ("priorities", "3 - 4", (3, 4)),
        ("priorities", "7", (7, 7)),
        ("source_addresses", "192.0.2.5\n2001:DB8::5", ("192.0.2.5", "2001:db8::5")),
        ("source_addresses", "", ()),
        ("domain_names", "A.example bücher.example", ("a.example", "xn--bcher-kva.example")),
        ("domain_or_all", "*", "*"),
        ("domain_or_all", "A.example.", "a.example"),
        ("any_count", "0", 0),
        ("any_size", "0", 0),
        ("any_size", "100MB", 100 * 2**20),
        ("status_url", "", ""),
        ("status_url", "http://192.0.2.20:9998/", "http://192.0.2.20:9998"),
        ("status_url", "https://[2001:db8::1]:9998", "https://[2001:db8::1]:9998"),
        ("status_url", "http://mx2.example", "http://mx2.example"),
        ("console_endpoints", "", ()),
        ("console_endpoints", "tcp:9998:interface=127.0.0.1", ("tcp:9998:interface=127.0.0.1",)),
        ("verbs", "get Post\nGET", ("GET", "POST")),
        ("verbs", "", ()),
        ("section_name", "Relay-A", "relay-a"),
        ("section_name", "", ""),
        ("http_user", "me", "me"),
        ("relay", "nobody", ()),
        ("relay", "whitelisted", ("whitelisted",)),
        ("relay", "192.0.2.1 whitelisted", ("whitelisted", ipaddress.ip_network("192.0.2.1/32"))),
        ("senders", "Boss@Partner.example", ("boss@partner.example",)),
        ("senders", "a.example @a.example *@A.example", ("*@a.example",)),
        ("senders", "*.a.example *@*.a.example", ("*@*.a.example",)),
        ("senders", "bücher.example a*@B*.example", ("*@xn--bcher-kva.example", "a*@b*.example")),
        ("senders", "abuse@* \"odd,one\"@a.example", ("abuse@*", '"odd,one"@a.example')),
        ("senders", "o'neill@a.example", ("o'neill@a.example",)),
        ("senders", "", ()),
        ("relay", "192.0.2.1-192.0.2.2",
         (ipaddress.ip_network("192.0.2.1/32"), ipaddress.ip_network("192.0.2.2/32"))),
    ],
)  # fmt: skip
def test_read_and_written(name: str, text: str, value: object) -> None:
    read = kind(name).read(text)
    assert read == value
    assert kind(name).read(kind(name).write(read)) == read


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("span", "15", "a bare number has no unit; write 15m or 15s"),
        ("span", "", "is no span; write it like 90s, 15m, 24h or 36d"),
        ("span", "-5m", "is no span; write it like 90s, 15m, 24h or 36d"),
        ("span", "5 m", "is no span; write it like 90s, 15m, 24h or 36d"),
        ("span", "5w", "w is no unit of time; one of: d, h, m, s"),
        ("span", "5000d", "is longer than 3650d"),
        ("limit", "0s", "must be more than 0s"),
        ("size", "30", "a bare number has no unit; write 30MB or 30KB"),
        ("size", "30M", "M is no unit of size; did you mean MB?"),
        ("size", "lots", "is no size; write it like 30MB or 256KB"),
        ("size", "0MB", "must be more than nothing and at most 1048576GB"),
        ("yes", "ja", "is neither yes nor no (on, off, true, false)"),
        ("count", "0", "must be a whole number from 1 to 1000000"),
        ("count", "²", "must be a whole number from 1 to 1000000"),
        ("priority", "11", "must be a whole number from 1 to 10"),
        ("number", "nan", "is no number; write it like 15 or 2.5"),
        ("number", "1e400", "is no number; write it like 15 or 2.5"),
        ("weight", "inf", "is no weight; write a number, reject, defer or quarantine"),
        ("weight", "NaN", "is no weight; write a number, reject, defer or quarantine"),
        ("weight", "rejct", "is no weight; did you mean reject?; write a number, reject, defer or quarantine"),
        ("retry", "", "nothing is no number of minutes; write it like 10/10/10/1440 or 15/30*"),
        ("retry", "10//10", "nothing is no number of minutes; write it like 10/10/10/1440 or 15/30*"),
        ("retry", "10/0", "0 minutes between attempts: must be more than 0 and at most 3650 days"),
        ("retry", "10*/20", "only the last wait may have a *"),
        ("retry", "15m/30m",
         "15m is no number of minutes; minutes are written without a unit; write it like 10/10/10/1440 or 15/30*"),
        ("counts_for", "", "needs filtering, blocking, or filtering blocking"),
        ("counts_for", "filterin", "filterin is not known here; did you mean filtering?"),
        ("hostname", "mx_1.example", "mx_1.example is no domain name: "
         "'mx_1' is no label of letters, digits and inner hyphens"),
        ("hostname", "a..b", "a..b is no domain name: '' is no label of letters, digits and inner hyphens"),
        ("hostname", "192.0.2.1", "192.0.2.1 is neither an IP address nor a domain name"),
        ("mailbox", "postmaster", "postmaster is no mail address; write name@domain"),
        ("mailbox", "a b@example.com", "a b before the @ is no local part (RFC 5321 4.1.2)"),
        ("pairs", "192.0.2.1", "192.0.2.1 is no pair; write ADDRESS=NAME"),
        ("addresses", "10.0.0.0/8", "10.0.0.0/8 is 16777216 addresses; at most 256 are expanded"),
        ("networks", "192.0.2.3/28", "192.0.2.3/28 has bits set beyond its prefix; write 192.0.2.0/28"),
        ("networks", "192.0.2.0/33", "192.0.2.0/33 is no CIDR block"),
        ("networks", "192.0.2.9-192.0.2.1", "192.0.2.9-192.0.2.1 runs backwards; write 192.0.2.1-192.0.2.9"),
        ("networks", "192.0.2.9-2001:db8::", "192.0.2.9-2001:db8:: mixes IPv4 and IPv6"),
        ("hosts", "192.0.2.0/27", "192.0.2.0/27 is 32 addresses; at most 16 are expanded"),
        ("hosts", "192.0.2.1 192.0.2.0/31", "192.0.2.1:25 stands there twice"),
        ("hosts", "192.0.2.1:0", "0 in 192.0.2.1:0 is no port; 1 to 65535"),
        ("hosts", "mx.example:smtp", "smtp in mx.example:smtp is no port; 1 to 65535"),
        ("hosts", "lmtp:127.0.0.1", "lmtp:127.0.0.1 names no port; write lmtp:HOST:PORT, 24 being LMTP's own"),
        ("hosts", "[192.0.2.1]:25",
         "[192.0.2.1]:25 is no host; an IPv6 address with a port is written [2001:db8::1]:25"),
        ("hosts", "192.0.2.300", "192.0.2.300 is neither an IP address nor a domain name"),
        ("endpoints", "", "needs at least one endpoint, such as tcp:25"),
        ("endpoints", "25", "25 is no endpoint; write it like tcp:25"),
        ("endpoints", "tcq:25", "tcq is no kind of endpoint; did you mean tcp?"),
        ("endpoints", "tcp:smtp", "tcp:smtp is no endpoint of Twisted's: smtp is no number"),
        ("endpoints", "tcp:70000", "70000 in tcp:70000 is no port; 1 to 65535"),
        ("endpoints", "tcp:25:foo=1", "tcp:25:foo=1 is no endpoint of Twisted's: foo is not one of its options"),
        ("endpoints", "tcp:25 tcp:25", "an endpoint stands there twice"),
        ("endpoints", "ssl:465:privateKey=/nowhere/k.pem:certKey=/nowhere/c.pem",
         "ssl:465:privateKey=/nowhere/k.pem:certKey=/nowhere/c.pem names a file that cannot be read: "
         "No such file or directory"),
        ("actions", "", "an action is missing; one of: "
         "deliver, discard, header, hold, quarantine, redirect, reject, tag"),
        ("actions", "deliver,", "an action is missing beside a comma; one of: "
         "deliver, discard, header, hold, quarantine, redirect, reject, tag"),
        ("actions", "quarantin", "quarantin is no action; did you mean quarantine?"),
        ("actions", "Reject", "Reject is no action; did you mean reject?"),
        ("actions", "reject quarantine", 'quarantine after reject: join actions by commas, put texts in double quotes: '
         'reject "quarantine"'),
        ("actions", 'discard, tag "X"', "discard and tag contradict each other: nobody would see it"),
        ("actions", 'header "A: b", discard', "discard and header contradict each other: nobody would see it"),
        ("actions", "reject, discard", "reject and discard contradict each other; a level does one of them"),
        ("actions", "redirect", "redirect needs an address: redirect spam@example.com"),
        ("actions", "redirect nobody", "nobody is no mail address; write name@domain"),
        ("actions", 'header "no colon"', 'header needs a field name and a value: header "X-Spam: yes"'),
        ("actions", 'header "X Y: z"', 'header needs a field name and a value: header "X-Spam: yes"'),
        ("actions", 'header "X-A: b\nX-B: c"', "the text of header must be printable and stand on one line"),
        ("actions", 'reject "a\rb"', "the text of reject must be printable and stand on one line"),
        ("actions", 'reject "nö"', "the text of reject may hold ASCII only"),
        ("actions", f'tag "{"x" * 101}"', "the text of tag has 101 characters; at most 100"),
        ("actions", 'tag ""', 'tag needs a text: tag "SPAM:"'),
        ("actions", 'tag "x', 'a " has no partner; texts stand in double quotes and hold none'),
        ("actions", 'hold "x"', "hold takes no text"),
        ("actions", 'tag "x", tag "x"', "an action stands there twice"),
        ("regex", "(", "is no regular expression: missing ), unterminated subpattern at position 0"),
        ("user", "a b", "a b is no user name"),
        ("text", "a\nb", "must stand on one line"),
        ("word:json text", "jsn", "jsn is not known here; did you mean json?"),
        ("workers", "65", "must be a number from 0 to 64, or auto"),
        ("workers", "many", "must be a number from 0 to 64, or auto"),
        ("workers", "-1", "must be a number from 0 to 64, or auto"),
        ("prefixes", "24", "needs bits of IPv4 and of IPv6; write it like 24/64"),
        ("prefixes", "33/64", "must be a whole number from 8 to 32"),
        ("prefixes", "24/", "must be a whole number from 16 to 128"),
        ("dns_servers", "sytem", "sytem is no IP address; write addresses, or system alone"),
        ("dns_servers", "", "needs the word system, or at least one address"),
        ("dns_servers", "system 192.0.2.1", "system is no IP address; write addresses, or system alone"),
        ("dns_servers", "192.0.2.1:0", "0 in 192.0.2.1:0 is no port; 1 to 65535"),
        ("dns_servers", "192.0.2.1 192.0.2.1:53", "a server stands there twice"),
        ("codes", "127.0.0.2", "127.0.0.2 is no pair; write it like 127.0.0.2=listed"),
        ("codes", "127.0.0.2=", "nothing in 127.0.0.2= is no word: small letters, digits and _"),
        ("codes", "127.0.0.2=Spam!", "Spam! in 127.0.0.2=Spam! is no word: small letters, digits and _"),
        ("codes", "192.0.2.1=listed", "192.0.2.1 is no return code of a list: those are in 127.0.0.0/8"),
        *(("codes", f"{mask}=listed", f"{mask} is no mask; write it like 127.0.0.&8, with 1 to 255 behind the &")
          for mask in ("127.0.0.&0", "127.0.0.&256", "127.0.0.&", "127.0.&8", "127.0.0.0&8", "128.0.0.&8",
                       "127.0.300.&8", "127.0.0.&8-127.0.0.&9", "127.0.0.&\u0668", "&8")),
        ("codes", "::1=listed", "::1 is no return code of a list: those are in 127.0.0.0/8"),
        ("codes", "127.0.0.9-127.0.0.2=listed", "127.0.0.9-127.0.0.2 runs backwards; write 127.0.0.2-127.0.0.9"),
        ("storage_url", "postgresql://h/d", "a spool in PostgreSQL is not there yet; write sqlite"),
        ("storage_url", "sqlit", "sqlit is not known here; did you mean sqlite?"),
        ("senders", "*@*", "*@* would be everybody; name a domain or a local part"),
        ("senders", "*", "* would be everybody; name a domain or a local part"),
        ("senders", "@", "@ would be everybody; name a domain or a local part"),
        ("senders", "a b@", "a domain name is missing"),
        ("senders", "a,b@c.example", "a,b before the @ is no local part (RFC 5321 4.1.2), * for anything in it"),
        ("senders", "a@b..example",
         "b..example is no domain name: '' is no label of letters, digits and inner hyphens"),
        ("senders", "a@*exämple",
         "*exämple is no domain name, * for anything in it; write one with other letters as A-labels"),
        ("senders", "a@*';drop",
         "*';drop is no domain name, * for anything in it; write one with other letters as A-labels"),
        ("senders", " ".join(f"a{number}*@b.example" for number in range(201)),
         "201 patterns have a * inside a name; at most 200, for each is tried for each message"),
        ("relay", "", "is empty; write nobody, or addresses"),
        ("relay", "nobdy", "nobdy is no IP address"),
        ("maybe_priority", "0", "must be a whole number from 1 to 10"),
        ("priorities", "", "must be a whole number from 1 to 10"),
        ("priorities", "1-11", "must be a whole number from 1 to 10"),
        ("priorities", "1-", "must be a whole number from 1 to 10"),
        ("priorities", "5-4", "5-4 is no range; the lower priority stands first"),
        ("source_addresses", "192.0.2.0/31", "192.0.2.0/31 is no IP address"),
        ("source_addresses", "fe80::1%eth0", "fe80::1%eth0 is no IP address"),
        ("domain_names", "*.example", "*.example is no domain name: "
         "'*' is no label of letters, digits and inner hyphens"),
        ("any_count", "-1", "must be a whole number from 0 to 1000000"),
        ("any_size", "100", "a bare number has no unit; write 100MB or 100KB"),
        ("status_url", "ftp://a.example", "is no address of a console; write it like http://192.0.2.20:9998"),
        ("status_url", "http://me:word@a.example",
         "is no address of a console; write it like http://192.0.2.20:9998"),
        ("status_url", "http://a.example/api", "is no address of a console; write it like http://192.0.2.20:9998"),
        ("console_endpoints", "9998", "9998 is no endpoint; write it like tcp:9998"),
        ("verbs", "GET MAIL", "MAIL is a command of SMTP that we answer"),
        ("verbs", "grüß", "GRÜSS is no word of a protocol: printable ASCII, at most 32"),
        ("section_name", "relay a", "relay a is no name: letters, digits, - and _, at most 40"),
        ("http_user", "a:b", "a name for HTTP holds no : (RFC 7617 2)"),
        ("recipients", "", "is empty; write any, or who knows the recipients"),
        ("recipients", "file:", "names no file; write file:/path"),
        ("recipients", "learned any", "any is everybody: nothing else is asked beside it"),
        ("recipients", "ftp://x.example/", "is no http://, https://, ldap:// or ldaps:// address"),
        ("recipients", "http:///list", "needs a host, and no name or password: these stand in recipients_username and "
         "recipients_password"),
        ("recipients", "http://me:secret@x.example/", "needs a host, and no name or password: these stand in "
         "recipients_username and recipients_password"),
        ("recipients", "http://x.example:99999/", "is no address: Port out of range 0-65535"),
        ("recipients", "http://x.example/#a", "holds what no such address holds"),
        ("recipients", "http://x.example/ä", "holds what no such address holds"),
        ("recipients", "ldap://x.example/", "an LDAP address names where to search: ldap://HOST/BASE"),
        ("recipients", "ldap://x.example/dc=a??tree", "the scope of an LDAP search is sub, one or base, not tree"),
        ("recipients", "ldap://x.example/dc=a???(mail=me)",
         "the filter of the LDAP search must stand in parentheses and hold {address}"),
        ("recipients", "ayn", "ayn is not known here; did you mean any?"),
    ],
)  # fmt: skip
def test_refused(name: str, text: str, wrong: str) -> None:
    with pytest.raises(Wrong) as raised:
        kind(name).read(text)
    assert str(raised.value) == wrong


few = settings(max_examples=100, deadline=None)


@few
@given(st.integers(0, 3650 * 86400 * 1000).map(lambda milliseconds: milliseconds / 1000))
def test_every_span_reads_back(seconds: float) -> None:
    assert kind("span").read(kind("span").write(seconds)) == seconds


@few
@given(st.integers(1, 2**50))
def test_every_size_reads_back(octets: int) -> None:
    assert kind("size").read(kind("size").write(octets)) == octets


@few
@given(
    st.lists(st.integers(1, 9_999_999).map(lambda ten_thousandths: ten_thousandths / 10_000), min_size=1, max_size=12),
    st.booleans(),
)
def test_every_retry_list_reads_back(minutes: list[float], repeat: bool) -> None:
    text = "/".join(f"{each:.4f}" for each in minutes) + "*" * repeat
    read = kind("retry").read(text)
    assert len(read.waits) == len(minutes)
    assert read.repeat_last == repeat
    assert all(abs(wait - minute * 60) < 0.001 for wait, minute in zip(read.waits, minutes, strict=True))
    assert kind("retry").read(kind("retry").write(read)) == read


@few
@given(st.sampled_from(sorted(KINDS)), st.text(max_size=30))
def test_no_text_breaks_a_kind(name: str, text: str) -> None:
    try:
        value = kind(name).read(text.strip())
    except Wrong as wrong:
        assert str(wrong)
    else:
        assert kind(name).read(kind(name).write(value)) == value


@few
@given(st.sampled_from(["actions", "hosts", "networks", "retry", "endpoints", "pairs"]),
       st.text(alphabet='tag"reject, redirect@:[]./-=*0123456789abcdefx\\ ', max_size=40))  # fmt: skip
def test_no_likely_text_breaks_a_list(name: str, text: str) -> None:
    try:
        value = kind(name).read(text.strip())
    except Wrong as wrong:
        assert str(wrong)
    else:
        assert kind(name).read(kind(name).write(value)) == value


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("unix:/run/clamav/clamd.ctl", ("unix:/run/clamav/clamd.ctl",)),
        ("/run/clamav/clamd.ctl", ("unix:/run/clamav/clamd.ctl",)),
        ("tcp:127.0.0.1:783", ("tcp:127.0.0.1:783",)),
        ("av.example:3310 [::1]:3310", ("tcp:av.example:3310", "tcp:\\:\\:1:3310")),
        ("tcp:av.example:3310:timeout=3", ("tcp:av.example:3310:timeout=3",)),
        ("tcp:\\:\\:1:783", ("tcp:\\:\\:1:783",)),
    ],
)
def test_servers(text: str, read: tuple[str, ...]) -> None:
    assert kind("servers").read(text) == read
    assert kind("servers").read(kind("servers").write(read)) == read


@pytest.mark.parametrize(
    "text", ["", "clamd", "unix:", "tcp:av.example", "tcp:av.example:x", "tcp:a:0", "a:70000", "tcp:a:1 a:1", "udp:x"]
)
def test_servers_refused(text: str) -> None:
    with pytest.raises(Wrong):
        kind("servers").read(text)


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 7), (65, 64), (256, 64)])
def test_workers_auto_leaves_a_core_to_all_else(cores: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    assert kind("workers").read("auto") == workers
