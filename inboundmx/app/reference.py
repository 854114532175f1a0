"""Generates etc/inboundmx.ini and docs/reference.md from the settings themselves, so that neither can lie.

Knows how the two read; does not know any key by itself. ``python -m inboundmx.app.reference`` writes both,
``--check`` only says whether they are as they should be.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from inboundmx.app.reading import keys_of
from inboundmx.app.settings import PLAIN
from inboundmx.app.usual_checks import optional_checks, usual_checks, usual_rules
from inboundmx.app.values import kind
from inboundmx.checks.api import ALWAYS
from inboundmx.checks.registry import KINDS
from inboundmx.model.settings import (
    DEFAULT_LEVELS,
    AbuseSettings,
    ArchiveSettings,
    CertificateSettings,
    CheckSettings,
    DomainSettings,
    LevelSettings,
    OutboundSettings,
    RecipientsSettings,
)
from inboundmx.model.verdict import written_weight

ROOT = Path(__file__).resolve().parents[2]
INI = Path("etc/inboundmx.ini")
MANUAL = Path("docs/reference.md")

ABOUT: Mapping[str, str] = {
    "gateway": "Who we are, where we listen, where our files are.",
    "smtp": "Limits of a conversation with a stranger.",
    "tls": "STARTTLS for strangers, and TLS on ssl: endpoints; how we speak TLS to the primaries stands in [delivery].",
    "tls NAME": "Another certificate, for strangers who ask for its names. SIGHUP reads all of them anew.",
    "dns": "Look-ups.",
    "storage": "Where mail waits and decisions are remembered.",
    "log": "The log, and the memory behind inboundmx explain.",
    "delivery": "Handing mail to the primaries; a domain may say otherwise for itself.",
    "blocking": "The second sum: checks that name it in counts_for. Tested from RCPT on, whatever the levels say.",
    "causes": "A check or level that suddenly speaks against far more mail than usual is doubted: docs/scoring.md.",
    "backup": "Domains we are backup MX of by their MX set, without a section of their own.",
    "relay": "Sending out through us. Nobody may, unless named here.",
    "submission": "Where those send out who show who they are. AUTH is offered nowhere else, and only over TLS.",
    "priority": "Priorities of kinds of mail in the spool, over what its domain says.",
    "console": "The status page for programs; [outbound] status_url of another inboundmx reads it.",
    "greylisting": "How long greylisting lasts, and for whom. A check does it: [check greylist], use = greylist.",
    "lists": "Who is spared what, and who is refused. inboundmx lists adds to it while the gateway runs.",
    "level": "What becomes of mail whose filtering sum reaches the threshold. The highest level reached decides alone; "
    "outgoing_action, where there is one, for mail we send out for others.",
    "domain": "A domain we take mail for. Mail for any other domain is refused.",
    "domain *": "Every domain without a section of its own. A primary that trusts us makes us an open relay with it.",
    "recipients": "What is different for some recipients of our domains, over what their domain says.",
    "outbound": "A server that mail to other people's domains leaves by. Without any it goes to them directly.",
    "archive": "A folder for copies of mail.",
    "abuse": "A limit on what a client may do, and what follows. Who is whitelisted for smtp is spared.",
    "check": "A check runs when it has a section. What an outcome is worth is a weight.",
}

GRAMMAR = """\
## How the file is read

- A section stands in brackets alone on its line. A key is followed by `=`; nothing else separates. Keys are case-blind,
  values are not. An empty value is allowed where the default is empty.
- Comments begin with `#` or `;` on lines of their own, never after a value. A value may go on over indented lines.
- There is no interpolation and no `[DEFAULT]`. The file is UTF-8 without a byte order mark.
- A section or key that stands twice is an error, also across files; so is one that does not exist. All that is wrong
  is reported at once, with file and line, and the gateway does not start. `inboundmx check` says the same beforehand.
- `include` in `[gateway]` names further files, such as `conf.d/*.ini`. Relative paths, in included files too, start at
  the folder of the first file.

| what | how it is written |
|---|---|
| span | `90s` `15m` `24h` `36d`; a bare number is refused |
| size | `512B` `256KB` `30MB` `2GB`; MB is 2^20 octets; a bare number is refused |
| yes or no | `yes` `no` `on` `off` `true` `false` |
| list | blanks or (indented) lines between |
| addresses | one (`192.0.2.1`, `2001:db8::1`), a range (`192.0.2.1-192.0.2.9`), a CIDR block (`192.0.2.0/28`) |
| endpoint | Twisted's server strings: `tcp:25`, `tcp:2525:interface=127.0.0.1`, `tcp6:25:interface=\\:\\:1`, \
`ssl:465` (TLS from the first octet, with the certificate of `[tls]`), `haproxy:tcp:25`, \
`systemd:domain=INET:index=0`, `unix:/path` |
| hosts | `192.0.2.10`, `mx.example.com`, either with `:PORT`, `[2001:db8::1]:25`, `lmtp:HOST:PORT`; a range or CIDR \
block of up to 16 addresses |
| secret | the password itself, or `file:/path`: the first line of that file, which must not be readable by everybody, \
and must be by `[gateway] user` when settings are read anew; it is never shown and never logged. An INI that holds the \
password itself wants `chmod o-r` as well |
| retry | minutes between attempts, the first attempt being at once: `10/10/10/1440` makes five attempts in 24.5 hours \
and is kept exactly; `15/30*` repeats the 30 until `lifetime` |
| domain | as people write it or as A-labels; kept as lower-case A-labels |
"""

TO_COME = """## Not there yet

Refused by name, never taken silently, until the work behind it is done.

- `url` other than `sqlite`
"""

ACTIONS = """\
## Actions

Joined by commas, texts in double quotes: `action = tag "SPAM-MED:", header "X-Filtered: yes"`. The actions of the
highest level reached replace those of lower ones. `deliver`, `redirect`, `quarantine`, `hold`, `discard` and `reject`
exclude each other, and `discard` excludes `tag` and `header`; without any of them the mail is delivered. Texts are
printable ASCII; a tag may hold any letters.

| action | does |
|---|---|
| `deliver` | delivers it, with the X-Spam headers |
| `header "Name: value"` | adds a header field |
| `tag "TEXT"` | puts the text before the subject |
| `redirect ADDRESS` | delivers it to that address instead |
| `quarantine` | accepts it and keeps it: `inboundmx quarantine` |
| `hold` | accepts it and waits for an operator: `inboundmx spool release` |
| `discard` | accepts it and forgets it, with a record |
| `reject` or `reject "TEXT"` | refuses it while the stranger waits |
"""

WEIGHTS = """\
## Weights

`weight.OUTCOME = 15` in a check says what that outcome adds: a number (negative ones take away), or one of the words
`reject`, `defer` and `quarantine`.
In a domain `weight.CHECK.OUTCOME` says the same for that domain alone; CHECK is the name of the section. Outcomes that
are not named have the weights shown under each kind.

1. Any `reject` refuses the mail (5xx).
2. Else any `defer` puts it off (4xx).
3. Else the *filtering* sum (checks with `counts_for = filtering`) is compared with the thresholds of the levels, and
   the *blocking* sum (checks with `counts_for = blocking`) with `[blocking] incoming_threshold`. Both are inclusive.
4. Where none of this refuses the mail, any `quarantine` keeps it there: `weight.infected = quarantine`.

The filtering sum is what X-Spam-Score and X-Spam-Level show. The blocking sum is compared from RCPT on, with what is
known by then, and refuses whatever the levels say.
"""


def _default(field: Any, defaults: Any) -> str:
    """The default as it would be written."""
    return kind(field.metadata["kind"]).write(getattr(defaults, field.name))


def _help(field: Any) -> str:
    """The line of help, with the words to choose from."""
    help, kind_name = field.metadata["help"], field.metadata["kind"]
    return f"{help} ({kind(kind_name).unit})" if kind_name.startswith("word:") else str(help)


def shipped_ini() -> str:
    """etc/inboundmx.ini: every key with its default and help; it loads as it is."""
    lines = [
        "# inboundmx: every key with its default. Change what you need; the rest may go.",
        "# inboundmx --config FILE check says whether it is right, docs/reference.md explains it at length.",
        "# Generated by python -m inboundmx.app.reference.",
        "",
    ]
    for section, made in PLAIN.items():
        lines += [f"# {ABOUT[section]}", f"[{section}]"]
        defaults = made()
        for name, field in keys_of(made).items():
            lines += [f"# {_help(field)}", f"{name} = {_default(field, defaults)}".rstrip()]
        lines.append("")
    lines.append(f"# {ABOUT['level']}")
    for level in DEFAULT_LEVELS:
        lines.append(f"[level {level.level.word}]")
        for name, field in keys_of(LevelSettings).items():
            if level.level or name != "threshold":
                lines.append(f"{name} = {_default(field, level)}".rstrip())
        lines.append("")
    lines += [*_example_domain(), *_example_recipients(), *_examples_of_routes(), f"# {ABOUT['abuse']}", usual_rules()]
    lines += _example_check()
    lines += [f"# {CHECKS}", "", usual_checks(), optional_checks()]
    return "\n".join(lines)


def _example_domain() -> Iterator[str]:
    yield f"# {ABOUT['domain']}"
    yield "# Take the # away, at least from the section and its primary."
    yield "#[domain example.com]"
    defaults = DomainSettings("example.com")
    for name, field in keys_of(DomainSettings).items():
        if name == "except":
            continue
        if field.metadata["help"] != AS_IN_DELIVERY:
            yield f"# {_help(field)}"
        shown = "192.0.2.10 mx2.example.com:2525" if name == "primary" else _default(field, defaults)
        yield f"#{name} = {shown}".rstrip()
    yield "# levels, blocking and weights of this domain alone"
    yield "#level.medium.threshold = 15"
    yield "#level.medium.action = quarantine"
    yield "#blocking.incoming_threshold = 30"
    yield "#weight.offers.match = 5"
    yield ""


def _examples_of_routes() -> Iterator[str]:
    yield f"# {ABOUT['domain *']}"
    yield "#[domain *]"
    yield "#primary = 192.0.2.10"
    yield f"# {keys_of(DomainSettings)['except'].metadata['help']}"
    yield "#except = example.org example.net"
    yield ""
    # It needs a [tls] that is not empty, and so is no example that could be taken as it stands.
    second = CertificateSettings("second", "/etc/inboundmx/tls/second.pem", names=("mx2.example.org",))
    yield from (f"# {line.removeprefix('#').lstrip()}".rstrip() for line in _example("tls NAME", second, {}))
    yield from _example("outbound", OutboundSettings("relay-a"), {"server": "smtp.relay.example:587"})
    yield from _example("archive", ArchiveSettings("everything"), {"path": "/var/lib/inboundmx/archive"})


def _example_recipients() -> Iterator[str]:
    shown = {"match": "sales@example.com *@sales.example.com", "skip_checks": "offers"}
    own = (
        "# levels, blocking and weights of these recipients alone",
        "#level.high.action = quarantine",
        "#blocking.incoming_threshold = 50",
        "#weight.offers.match = 0",
    )
    yield from _example("recipients", RecipientsSettings("sales"), shown, own)


def _example(word: str, made: Any, shown: Mapping[str, str], more: Iterable[str] = ()) -> Iterator[str]:
    yield f"# {ABOUT[word]}"
    yield f"#[{word.removesuffix(' NAME')} {made.name}]"
    for name, field in keys_of(type(made)).items():
        yield f"# {_help(field)}"
        yield f"#{name} = {shown.get(name) or _default(field, made)}".rstrip()
    yield from more
    yield ""


AS_IN_DELIVERY = "as in [delivery]"
CHECKS = "The usual checks, with the weights that they usually have. docs/checks has a page for each kind."


def _example_check() -> Iterator[str]:
    yield f"# {ABOUT['check']} One of your own, with every key that any check has:"
    yield "#[check offers]"
    yield "#use = headers"
    defaults = CheckSettings("offers", "headers")
    for name, field in keys_of(CheckSettings).items():
        yield f"# {_help(field)}"
        yield f"#{name} = {_default(field, defaults)}".rstrip()
    yield "#header = Subject"
    yield "#value = limited offer"
    yield "#weight.match = 10"
    yield ""


def manual() -> str:
    """docs/reference.md."""
    parts = [
        "# Reference of the INI file\n\n"
        "Every key, generated from the program by `python -m inboundmx.app.reference`. "
        "The shipped [etc/inboundmx.ini](../etc/inboundmx.ini) holds the same keys with the same defaults.\n",
        GRAMMAR,
        "## Sections\n",
    ]
    for section, made in PLAIN.items():
        parts.append(f"### `[{section}]`\n\n{ABOUT[section]}\n\n{_table(made, made())}")
    parts.append(f"### `[level none]` `[level low]` `[level medium]` `[level high]`\n\n{ABOUT['level']}\n\n{_levels()}")
    parts.append(
        f"### `[domain NAME]`\n\n{ABOUT['domain']} What it leaves out is as in `[delivery]`, `[level …]` and "
        f"`[blocking]`, except that `mode = backup` has `retry = 10/10/10/1440` and `when_exhausted = hold` "
        f"unless the domain says otherwise itself. Beside the keys below: `level.LEVEL.threshold`, "
        f"`level.LEVEL.action`, `blocking.incoming_threshold`, `weight.CHECK.OUTCOME`.\n\n"
        f"{_table(DomainSettings, DomainSettings('example.com'))}"
    )
    parts.append(f"### `[domain *]`\n\n{ABOUT['domain *']} It has the keys of `[domain NAME]`.\n")
    parts.append(
        f"### `[recipients NAME]`\n\n{ABOUT['recipients']} Beside the keys below: `level.LEVEL.threshold`, "
        f"`level.LEVEL.action`, `blocking.incoming_threshold`, `weight.CHECK.OUTCOME`. What is not there is as the "
        f"domain says. NAME is yours: letters, digits, `-` and `_`.\n\n"
        f"{_table(RecipientsSettings, RecipientsSettings(''))}"
    )
    named = (
        *(("tls NAME", CertificateSettings), ("outbound", OutboundSettings)),
        *(("archive", ArchiveSettings), ("abuse", AbuseSettings)),
    )
    for word, made in named:
        parts.append(
            f"### `[{word.removesuffix(' NAME')} NAME]`\n\n"
            f"{ABOUT[word]} There may be several; NAME is yours: letters, digits, `-` and `_`.\n\n"
            f"{_table(made, made(''))}"
        )
    parts.append(
        f"### `[check NAME]`\n\n{ABOUT['check']} `use` names the kind; NAME is yours: letters, digits, `-` and `_`. "
        f"Every kind has these keys, `weight.OUTCOME`, and those named under the kind.\n\n"
        f"{_table(CheckSettings, CheckSettings('', ''))}"
    )
    parts.append("## Kinds of check\n")
    parts += [_kind_of_check(name) for name in sorted(KINDS)]
    parts += [WEIGHTS, ACTIONS, TO_COME]
    return "\n".join(parts)


def _table(made: type[Any], defaults: Any) -> str:
    rows = ["| key | what is written | default | meaning |", "|---|---|---|---|"]
    for name, field in keys_of(made).items():
        rows.append(_row(name, field.metadata["kind"], _default(field, defaults), field.metadata["help"]))
    return "\n".join(rows) + "\n"


def _row(name: str, kind_name: str, default: str, help: str) -> str:
    cells = (f"`{name}`", kind(kind_name).unit, f"`{default}`" if default else "", help)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _levels() -> str:
    rows = ["| level | `threshold`: a number, inclusive | `action`: see below |", "|---|---|---|"]
    for level in DEFAULT_LEVELS:
        threshold = f"`{level.threshold:g}`" if level.level else "has none: it is what remains"
        rows.append(f"| `{level.level.word}` | {threshold} | `{kind('actions').write(level.action)}` |")
    return "\n".join(rows) + "\n\nThresholds ascend from low to high. `outgoing_action` is written like `action`.\n"


def _kind_of_check(name: str) -> str:
    made = KINDS[name]
    weights = dict.fromkeys(sorted(made.outcomes) + sorted(ALWAYS), 0.0) | dict(made.weights)
    lines = [f"### `use = {name}`", "", f"Runs at the {made.stage.name.lower()} stage.", ""]
    if made.options:
        lines += ["| key | what is written | default | meaning |", "|---|---|---|---|"]
        for option in made.options:
            default = "" if option.required else kind(option.kind).write(option.default)
            help = f"{option.help} (must be given)" if option.required else option.help
            lines.append(_row(option.name, option.kind, default, help))
        lines.append("")
    lines += ["| outcome | weight when none is given |", "|---|---|"]
    lines += [f"| `{outcome}` | {written_weight(weight)} |" for outcome, weight in weights.items()]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m inboundmx.app.reference", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is not as generated")
    check = parser.parse_args(arguments).check
    stale = []
    for path, text in ((INI, shipped_ini()), (MANUAL, manual())):
        target = ROOT / path
        if target.exists() and target.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path))
        if not check:
            target.write_text(text, encoding="utf-8")
    if stale:
        sys.stdout.write(f"{'out of date' if check else 'written'}: {' '.join(stale)}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
