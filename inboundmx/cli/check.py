"""``inboundmx check``: whether the INI is right, what it means, and whether what it names is there.

Knows how the effective settings read on a terminal. Does not know how they are read (``app.settings``) or tried
(``app.checking``, ``app.calling``, ``app.calling_outside``). 0: valid, everything answers; 1: valid, something named
did not answer; 2: the INI is wrong, something local that it names is missing, or it makes us an open relay.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inboundmx.app.calling import Call, call_all, open_relays
from inboundmx.app.calling_lists import ListCall
from inboundmx.app.calling_outbound import OutboundCall
from inboundmx.app.calling_outside import OutsideCalls, call_outside
from inboundmx.app.calling_recipients import RecipientsCall
from inboundmx.app.calling_scanners import ScannerCall, call_scanners
from inboundmx.app.checking import gives_up_after, problems_at_start, warnings
from inboundmx.app.effective import effective
from inboundmx.app.settings import BadSettings, load, open_passwords
from inboundmx.app.values import kind
from inboundmx.cli.check_routes import indented, routes
from inboundmx.cli.printing import complain, safe, say, say_json, table
from inboundmx.model.custody import Host
from inboundmx.model.settings import DomainSettings, Settings
from inboundmx.model.verdict import Level, written_weight

_WANTS_TLS = ("required", "verified")


def register(commands: Any) -> None:
    parser = commands.add_parser(
        "check",
        help="say whether the INI is right, what it means, and whether what it names answers",
        description=__doc__.splitlines()[0],
        epilog="exit status 0: valid, everything answers; 1: valid, something did not answer; 2: wrong, missing, or an "
        "open relay",
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="do not call primaries, scanners, lists in DNS, outbound servers and lists of recipients",
    )
    parser.add_argument("--json", action="store_true", help="all of it as one JSON value")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    path = args.config
    try:
        settings = load(path)
    except BadSettings as bad:
        return _refused([str(problem) for problem in bad.problems], args.json)
    problems = problems_at_start(settings)
    remarks = [*warnings(settings, datetime.datetime.now(datetime.UTC)), *open_passwords(path)]
    answers = Answers() if args.offline else _asked(settings)
    errors = [
        f"[domain *] primary {host} accepts mail for any domain from us ({call.detail}): we would be an open relay"
        for host, call in answers.relays.items()
    ]
    if args.json:
        say_json(_as_json(path, settings, [*problems, *errors], remarks, answers))
    else:
        say(*report(settings), *_called(settings, answers.primaries), *_scanners(answers.scanners))
        say(*_zones(answers.outside.lists))
        say(*_left_by(answers.outside.outbound), *_lists(answers.outside.recipients))
        say(*_remarks(remarks, [*problems, *errors]))
        if problems:
            complain("the INI is valid, but the gateway will not start")
    if problems or errors:
        return 2
    return 1 if _silent(settings, answers) else 0


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of asking: primaries, scanners, servers that mail leaves by, lists of recipients and in DNS, and
    primaries of ``[domain *]`` that would send a stranger's mail on."""

    primaries: Mapping[Host, Call] = field(default_factory=dict)
    scanners: Sequence[ScannerCall] = ()
    outside: OutsideCalls = field(default_factory=OutsideCalls)
    relays: Mapping[Host, Call] = field(default_factory=dict)


def _asked(settings: Settings) -> Answers:
    hostname, everything = settings.gateway.hostname, settings.everything
    served = _served(settings)
    encrypted = {host for domain in served if domain.tls in _WANTS_TLS for host in domain.primary}
    calls = call_all((host for domain in served for host in domain.primary), hostname, encrypted)
    relays: Mapping[Host, Call] = {}
    if everything is not None and everything.enabled:
        relays = open_relays((host for host in everything.primary if calls[host].answered), hostname)
    return Answers(calls, call_scanners(settings.checks), call_outside(settings), relays)


def _served(settings: Settings) -> list[DomainSettings]:
    return [domain for domain in settings.sections if domain.enabled]


def _silent(settings: Settings, answers: Answers) -> bool:
    """Whether anybody did not answer as it should."""
    outside = answers.outside
    calls: list[ScannerCall | OutboundCall | RecipientsCall | ListCall] = [
        *answers.scanners, *outside.outbound, *outside.recipients, *outside.lists
    ]  # fmt: skip
    unreached = any(_unreached(domain, answers.primaries) for domain in _served(settings))
    return unreached or not all(call.answered for call in calls)


def _refused(problems: list[str], as_json: bool) -> int:
    if as_json:
        say_json({"valid": False, "problems": problems})
    else:
        complain(*map(safe, problems))
    return 2


def _unreached(domain: DomainSettings, calls: Mapping[Host, Call]) -> list[Host]:
    """Primaries of the domain that were called and do not do."""
    return [host for host in domain.primary if host in calls and _trouble(domain, calls[host])]


def _trouble(domain: DomainSettings, call: Call) -> str:
    if not call.answered:
        return call.detail
    if domain.tls in _WANTS_TLS and "STARTTLS" not in call.extensions:
        return f"does not offer STARTTLS, and tls = {domain.tls}"
    trouble = call.encryption or call.certificate if domain.tls == "verified" else call.encryption
    return f"{trouble}, and tls = {domain.tls}" if trouble and domain.tls in _WANTS_TLS else ""


def report(settings: Settings) -> list[str]:
    """The effective settings for a person to read."""
    gateway, shown = settings.gateway, " ".join(each.certificate for each in settings.tls.certificates)
    lines = [
        f"{gateway.hostname} listens on {' '.join(gateway.listen)}, its files are in {gateway.data}",
        f"postmaster {gateway.postmaster}; "
        f"{f'STARTTLS with {shown}' if shown else 'no STARTTLS: [tls] certificate is empty'}; "
        f"messages up to {kind('size').write(settings.smtp.max_message_size)}",
        f"settings {settings.fingerprint}",
    ]
    if settings.console.listen:
        who = f"to {settings.console.username}" if settings.console.password else "to nobody, for want of a password"
        lines.append(f"status page for programs on {' '.join(settings.console.listen)}, open {who}")
    lines += map(safe, routes(settings))
    lines += ["", "Levels, by the filtering sum", *indented(_levels(settings))]
    lines += [
        "",
        f"Blocking sum: refused from {settings.blocking.incoming_threshold:g} on "
        f"(outgoing {settings.blocking.outgoing_threshold:g})",
        "",
    ]
    if settings.checks:
        lines += ["Checks and what their outcomes are worth", *indented(_weights(settings))]
    else:
        lines.append("No check runs: there is no [check …] section")
    return lines


def _levels(settings: Settings) -> list[str]:
    rows = []
    for level in settings.levels:
        begins = "the rest" if level.level is Level.NONE else f"{level.threshold:g}"
        action = kind("actions").write(level.action)
        if level.outgoing_action:
            action += f"; outgoing mail: {kind('actions').write(level.outgoing_action)}"
        rows.append((level.level.word, begins, action))
    return table(("level", "from", "action"), rows, right=(1,))


def _weights(settings: Settings) -> list[str]:
    rows = [
        (check.name, check.kind, outcome, written_weight(weight), kind("counts_for").write(check.counts_for))
        for check in settings.checks
        for outcome, weight in check.weights.items()
    ]
    return table(("check", "use", "outcome", "weight", "counts for"), rows, right=(3,))


def _called(settings: Settings, calls: Mapping[Host, Call]) -> Iterable[str]:
    if not calls:
        return
    yield ""
    yield "Primaries"
    rows = []
    for domain in _served(settings):
        for host in domain.primary:
            trouble = _trouble(domain, calls[host])
            rows.append((domain.name, str(host), "no" if trouble else "yes", trouble or calls[host].detail))
    yield from indented(table(("domain", "primary", "answers", ""), rows))


def _scanners(scanners: Iterable[ScannerCall]) -> Iterable[str]:
    rows = [(call.check, call.server, "yes" if call.answered else "no", call.detail) for call in scanners]
    return ["", "Scanners", *indented(table(("check", "server", "answers", ""), rows))] if rows else []


def _zones(calls: Iterable[ListCall]) -> Iterable[str]:
    rows = [(call.check, call.zone, "yes" if call.answered else "no", call.detail) for call in calls]
    return ["", "Lists in DNS", *indented(table(("check", "zone", "believed", ""), rows))] if rows else []


def _left_by(calls: Iterable[OutboundCall]) -> Iterable[str]:
    rows = [
        (call.outbound, str(call.host), call.source or "any", "yes" if call.answered else "no", call.detail)
        for call in calls
    ]
    return ["", "Outbound", *indented(table(("outbound", "server", "from", "answers", ""), rows))] if rows else []


def _lists(calls: Iterable[RecipientsCall]) -> Iterable[str]:
    rows = [(call.domain, call.source, "yes" if call.answered else "no", call.detail) for call in calls]
    return ["", "Recipients", *indented(table(("domain", "list", "answers", ""), rows))] if rows else []


def _remarks(remarks: Iterable[str], problems: Iterable[str]) -> Iterable[str]:
    lines = [*(f"warning: {each}" for each in remarks), *(f"problem: {each}" for each in problems)]
    return ["", *map(safe, lines)] if lines else []


def _as_json(
    path: str,
    settings: Settings,
    problems: list[str],
    remarks: list[str],
    answers: Answers,
) -> dict[str, Any]:
    domains, calls = settings.sections, answers.primaries
    return {
        "valid": True,
        "file": path,
        "fingerprint": settings.fingerprint,
        "problems": problems,
        "warnings": remarks,
        "settings": effective(settings),
        "gives_up_after_seconds": {domain.name: gives_up_after(domain.retry, domain.lifetime) for domain in domains},
        "primaries": [
            {
                "domain": domain.name,
                "host": str(host),
                "answers": not _trouble(domain, calls[host]) if host in calls else None,
                "detail": (_trouble(domain, calls[host]) or calls[host].detail) if host in calls else None,
            }
            for domain in domains
            for host in domain.primary
        ],
        "scanners": [
            {"check": call.check, "server": call.server, "answers": call.answered, "detail": call.detail}
            for call in answers.scanners
        ],
        "outbound": [
            {
                "outbound": call.outbound,
                "server": str(call.host),
                "source_address": call.source,
                "answers": call.answered,
                "detail": call.detail,
            }
            for call in answers.outside.outbound
        ],
        "lists": [
            {"check": call.check, "zone": call.zone, "answers": call.answered, "detail": call.detail}
            for call in answers.outside.lists
        ],
        "recipients": [
            {"domain": call.domain, "list": call.source, "answers": call.answered, "detail": call.detail}
            for call in answers.outside.recipients
        ],
    }
