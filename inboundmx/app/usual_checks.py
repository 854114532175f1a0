"""The checks and rules that a gateway usually has, as text of an INI, each with a sentence why.

Knows what is shipped. Does not know how a check works. etc/inboundmx.ini and ``inboundmx init`` take both from here,
the demonstration the checks.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

CLAMD = "unix:/run/clamav/clamd.ctl"
SPAMD = "tcp:127.0.0.1:783"
# What Debian calls the package that runs the scanner of a check.
PACKAGES = {"clamav": "clamav-daemon", "spamassassin": "spamd"}

# Name of the section, why it is there, and its lines. The weights are those that hosts running SmarterMail usually
# have; where they differ, a comment says so.
USUAL: tuple[tuple[str, str, str], ...] = (
    (
        "rdns",
        "An address without a name, or whose name does not lead back to it, seldom belongs to a mail server.",
        "use = rdns\nweight.none = 10\nweight.unconfirmed = 5",
    ),
    (
        "early",
        "Who speaks before it is greeted has no time for protocols. Needs a banner_delay in [smtp], such as 2s.",
        "use = early_talker\ncounts_for = filtering blocking\nweight.yes = 15",
    ),
    (
        "helo",
        "Honest servers know their own name; one that uses ours is lying.",
        "use = helo\nweight.invalid = 5\nweight.our_name = 15\nweight.literal = 2\nweight.unresolvable = 3",
    ),
    (
        "spamhaus",
        "Addresses that send spam, or that no mail server should send from. It counts for blocking as well: two such\n"
        "lists refuse a stranger before it has sent anything. Ask it through a resolver of your own: public ones hear\n"
        "errors, which weigh nothing.",
        "use = dnsbl\nzone = zen.spamhaus.org\ncodes = 127.0.0.2-127.0.0.9=listed 127.0.0.10-127.0.0.11=policy\n"
        "counts_for = filtering blocking\nweight.listed = 20\nweight.policy = 15",
    ),
    (
        "spamcop",
        "Addresses that people have reported lately.",
        "use = dnsbl\nzone = bl.spamcop.net\ncounts_for = filtering blocking\nweight.listed = 10",
    ),
    (
        "dnswl",
        "A list of good senders: it takes away, so that one bad mark does not condemn a well-known server.",
        "use = dnsbl\nzone = list.dnswl.org\nignore = 127.0.0.255 127.255.255.0/24\nweight.listed = -5",
    ),
    (
        "spf",
        "The sender's domain says which servers send for it. Hosts that trust it more have 30 and 10.",
        "use = spf\nidentity = mailfrom helo\nweight.fail = 15\nweight.softfail = 5",
    ),
    (
        "blocked",
        "Senders on the lists: those that are blocked are refused, those that are trusted and show that they are who\n"
        "they say are neither greylisted nor weighed as spam. [lists], and inboundmx lists while the gateway runs.",
        "use = blocked",
    ),
    (
        "greylist",
        "Who was never seen before is put off once; what sends spam seldom comes back. For how long, and who is not,\n"
        "stands in [greylisting].",
        "use = greylist",
    ),
    (
        "dkim",
        "A signature shows which domain stands behind the mail. Mailing lists break it, so a broken one weighs little.",
        "use = dkim\nweight.fail = 3",
    ),
    (
        "arc",
        "What lists and forwarders say they saw before they altered mail. With trusted = DOMAIN ... the word of those\n"
        "sealers excuses mail that DMARC would hold against its author; of itself it weighs nothing.",
        "use = arc",
    ),
    (
        "dmarc",
        "Whether the author's own domain stands behind the mail, by the checks above. A domain may ask for mail\n"
        "in its name to be rejected. Mailing lists fail as well, so that alone only marks it; with an SPF fail on top\n"
        "it is refused. permerror is a From that is written so that readers may see different authors.",
        "use = dmarc\nweight.fail_reject = 20\nweight.fail_quarantine = 10\nweight.permerror = 3",
    ),
    (
        "dbl",
        "Domains that links lead to. As with all such lists: through a resolver of your own.",
        "use = uribl\nzone = dbl.spamhaus.org\naddresses = no\n"
        "codes = 127.0.1.4-127.0.1.6=harmful 127.0.1.2-127.0.1.99=listed 127.0.1.102-127.0.1.106=abused\n"
        "weight.harmful = 30\nweight.listed = 20\nweight.abused = 5",
    ),
    (
        "surbl",
        "The same by others, whose codes are sums: 8 is phishing, 16 malware, 64 spam, 128 a site that was broken\n"
        "into. A link that is shown as one to somewhere else is a mismatch: newsletters have such links as well, so\n"
        "it weighs nothing unless you write weight.mismatch.",
        "use = uribl\nzone = multi.surbl.org\n"
        "codes = 127.0.0.&24=harmful 127.0.0.&64=listed 127.0.0.&128=abused\n"
        "weight.harmful = 30\nweight.listed = 15\nweight.abused = 5",
    ),
    (
        "attachments",
        "Files that no stranger should send, by their names and by what they are, in archives as well. Hosts that let\n"
        "nothing of the kind in write weight.forbidden = reject.",
        "use = attachments\nweight.forbidden = 30\nweight.too_deep = 20\nweight.macro = 10\nweight.encrypted = 5\n"
        "weight.malformed = 5",
    ),
    (
        "clamav",
        "Viruses. Infected mail is refused; while clamd does not answer, mail is put off (451) and comes again.\n"
        "Without a clamd, take this section out.",
        f"use = clamav\nservers = {CLAMD}\ntimeout = 10s",
    ),
    (
        "spamassassin",
        "What the text looks like. It is asked last, and not at all when it can no longer change anything. at_once is\n"
        "the number of spamd's children. Without a spamd, take this section out: its error weighs nothing.",
        f"use = spamassassin\nservers = {SPAMD}\ntimeout = 20s\nweight.low = 10\nweight.medium = 20\nweight.high = 30",
    ),
)

# The same of checks that not everybody needs: comments in the shipped INI.
OPTIONAL: tuple[tuple[str, str, str], ...] = (
    (
        "bayes",
        "Words, judged by mail of your own: it says nothing before inboundmx train has seen 100 messages of spam and\n"
        "100 of ham. inboundmx train report tells how well it judges.",
        "use = bayes\nweight.spam = 10",
    ),
    (
        "rspamd",
        "rspamd in place of SpamAssassin. It must not greylist nor limit rates: the gateway does.",
        "use = rspamd\nservers = tcp:127.0.0.1:11333\ntimeout = 20s\nweight.low = 10\nweight.medium = 20\n"
        "weight.high = 30",
    ),
    (
        "command-av",
        "A program that looks at a copy of each message (SmarterMail: Command-Line AV). What its exit status means is\n"
        "for you to say; infected is refused.",
        "use = command\ncommand = /usr/bin/clamscan --no-summary --infected %filepath\nexit.0 = clean\n"
        "exit.1 = infected\ntimeout = 60s\nweight.error = defer\nweight.timeout = defer",
    ),
)


RULES: tuple[tuple[str, str, str], ...] = (
    (
        "connections",
        "Whoever connects so often is no mail server that anybody waits for.",
        "window = 10m\nlimit = 200\nblock = 60m",
    ),
    (
        "bad-sessions",
        "Harvesting: sessions that only try which recipients exist.",
        "window = 10m\nlimit = 20\nblock = 60m",
    ),
    ("bad-recipients", "The same, whatever else is sent in between.", "window = 10m\nlimit = 100\nblock = 60m"),
    ("bad-commands", "What does not speak SMTP and goes on.", "window = 10m\nlimit = 100\nblock = 30m"),
)


def usual_rules() -> str:
    parts = [f"# {why}\n[abuse {name}]\n{lines}\n" for name, why, lines in RULES]
    parts.append(
        "# An internal spammer: many messages of one size from one of those who send out through us. Nobody is\n"
        "# blocked for it; somebody should look.\n#[abuse same-size]\n#window = 60m\n#limit = 100\n"
        "#notify = postmaster@example.net\n"
    )
    return "\n".join(parts)


def present(server: str) -> bool:
    """Whether something listens there now."""
    kind, _, rest = server.partition(":")
    try:
        if kind == "unix":
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(1.0)
                probe.connect(rest)
        else:
            host, _, port = rest.rpartition(":")
            socket.create_connection((host, int(port)), 1.0).close()
    except OSError:
        return False
    return True


def missing(there: Callable[[str], bool] = present) -> list[str]:
    """Names of the usual checks whose scanner does not run on this machine, each with where it was looked for."""
    return [name for name, server in (("clamav", CLAMD), ("spamassassin", SPAMD)) if not there(server)]


def optional_checks() -> str:
    """The sections, each line with a sign that makes it a comment."""
    return "\n".join(_explained(why, _marked("#", f"[check {name}]\n{lines}")) for name, why, lines in OPTIONAL)


def usual_checks(left_out: Iterable[str] = (), more: Callable[[str], str] = lambda name: "") -> str:
    """The sections. Those ``left_out`` are there as comments; ``more`` gives further lines for a section."""
    out = frozenset(left_out)
    parts = []
    for name, why, lines in USUAL:
        text = "\n".join(filter(None, (f"[check {name}]", lines, more(name))))
        parts.append(_explained(why, _marked("# ", text) if name in out else text))
    return "\n".join(parts)


def _explained(why: str, section: str) -> str:
    return f"{_marked('# ', why)}\n{section}\n"


def _marked(sign: str, text: str) -> str:
    return "\n".join(f"{sign}{line}" for line in text.splitlines())
