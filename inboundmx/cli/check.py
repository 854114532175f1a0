"""``inboundmx check``: whether the INI is right, what it means, and whether what it names is there.

Knows how the effective settings read on a terminal. Does not know how they are read (``app.settings``) or tried
(``app.checking``, ``app.calling``). 0: valid, everything answers; 1: valid, something named did not answer; 2: the INI
is wrong, or something local that it names is missing.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from inboundmx.app.calling import Call, call_all
from inboundmx.app.calling_scanners import ScannerCall, call_scanners
from inboundmx.app.checking import gives_up_after, patience, problems_at_start, warnings
from inboundmx.app.effective import effective
from inboundmx.app.settings import DEFAULT_PATH, BadSettings, load
from inboundmx.app.values import kind
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
        epilog="exit status 0: valid, everything answers; 1: valid, something did not answer; 2: wrong, or missing",
    )
    parser.add_argument("--offline", action="store_true", help="do not call the primaries and scanners")
    parser.add_argument("--json", action="store_true", help="all of it as one JSON value")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    path = args.config or DEFAULT_PATH
    try:
        settings = load(path)
    except BadSettings as bad:
        return _refused([str(problem) for problem in bad.problems], args.json)
    problems = problems_at_start(settings)
    remarks = warnings(settings, datetime.datetime.now(datetime.UTC))
    calls: dict[Host, Call] = {}
    scanners: list[ScannerCall] = []
    if not args.offline:
        scanners = call_scanners(settings.checks)
        calls = call_all(
            (host for domain in settings.domains.values() for host in domain.primary), settings.gateway.hostname
        )
    silent = any(_unreached(domain, calls) for domain in settings.domains.values())
    silent = silent or not all(scanner.answered for scanner in scanners)
    if args.json:
        say_json(_as_json(path, settings, problems, remarks, calls, scanners))
    else:
        say(*report(settings), *_called(settings, calls), *_scanners(scanners), *_remarks(remarks, problems))
        if problems:
            complain("the INI is valid, but the gateway will not start")
    if problems:
        return 2
    return 1 if silent else 0


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
    return ""


def report(settings: Settings) -> list[str]:
    """The effective settings for a person to read."""
    gateway, tls = settings.gateway, settings.tls
    lines = [
        f"{gateway.hostname} listens on {' '.join(gateway.listen)}, its files are in {gateway.data}",
        f"postmaster {gateway.postmaster}; "
        f"{f'STARTTLS with {tls.certificate}' if tls.certificate else 'no STARTTLS: [tls] certificate is empty'}; "
        f"messages up to {kind('size').write(settings.smtp.max_message_size)}",
        f"settings {settings.fingerprint}",
    ]
    for domain in settings.domains.values():
        lines += ["", *_domain(domain, settings)]
    lines += ["", "Levels, by the filtering sum", *_indented(_levels(settings))]
    lines += [
        "",
        f"Blocking sum: refused from {settings.blocking.incoming_threshold:g} on "
        f"(outgoing {settings.blocking.outgoing_threshold:g})",
        "",
    ]
    if settings.checks:
        lines += ["Checks and what their outcomes are worth", *_indented(_weights(settings))]
    else:
        lines.append("No check runs: there is no [check …] section")
    return lines


def _domain(domain: DomainSettings, settings: Settings) -> Iterable[str]:
    exhausted = "held" if domain.when_exhausted == "hold" else f"bounced ({domain.bounce})"
    yield f"{domain.name}: {domain.mode} to {' '.join(map(str, domain.primary))} ({domain.balance}), tls {domain.tls}"
    deadline = kind("span").write(domain.handover_deadline)
    yield f"  handover {domain.handover} within {deadline}; priority {domain.priority}; recipients {domain.recipients}"
    yield f"  retry {kind('retry').write(domain.retry)}: {patience(domain)}, then {exhausted}"
    for level, usual in zip(domain.levels, settings.levels, strict=True):
        if level != usual:
            actions = kind("actions").write(level.action)
            yield f"  level {level.level.word}{f' from {level.threshold:g}' if level.level else ''}: {actions}"
    if domain.blocking != settings.blocking:
        yield f"  blocking from {domain.blocking.incoming_threshold:g} on"
    for (check, outcome), weight in domain.weights.items():
        yield f"  {check}={outcome} is worth {written_weight(weight)}"


def _levels(settings: Settings) -> list[str]:
    rows = []
    for level in settings.levels:
        begins = "the rest" if level.level is Level.NONE else f"{level.threshold:g}"
        rows.append((level.level.word, begins, kind("actions").write(level.action)))
    return table(("level", "from", "action"), rows, right=(1,))


def _weights(settings: Settings) -> list[str]:
    rows = [
        (check.name, check.kind, outcome, written_weight(weight), kind("counts_for").write(check.counts_for))
        for check in settings.checks
        for outcome, weight in check.weights.items()
    ]
    return table(("check", "use", "outcome", "weight", "counts for"), rows, right=(3,))


def _indented(lines: Iterable[str]) -> Iterable[str]:
    return (f"  {line}" for line in lines)


def _called(settings: Settings, calls: Mapping[Host, Call]) -> Iterable[str]:
    if not calls:
        return
    yield ""
    yield "Primaries"
    rows = []
    for domain in settings.domains.values():
        for host in domain.primary:
            trouble = _trouble(domain, calls[host])
            rows.append((domain.name, str(host), "no" if trouble else "yes", trouble or calls[host].detail))
    yield from _indented(table(("domain", "primary", "answers", ""), rows))


def _scanners(scanners: Iterable[ScannerCall]) -> Iterable[str]:
    rows = [(call.check, call.server, "yes" if call.answered else "no", call.detail) for call in scanners]
    return ["", "Scanners", *_indented(table(("check", "server", "answers", ""), rows))] if rows else []


def _remarks(remarks: Iterable[str], problems: Iterable[str]) -> Iterable[str]:
    lines = [*(f"warning: {each}" for each in remarks), *(f"problem: {each}" for each in problems)]
    return ["", *map(safe, lines)] if lines else []


def _as_json(
    path: str,
    settings: Settings,
    problems: list[str],
    remarks: list[str],
    calls: Mapping[Host, Call],
    scanners: Iterable[ScannerCall],
) -> dict[str, Any]:
    domains = settings.domains.values()
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
            for call in scanners
        ],
    }
