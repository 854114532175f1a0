"""Where mail goes by the effective settings, for a person to read: domains, backup, outgoing mail, archives.

Knows how it reads on a terminal. Does not know whether anybody answers there.
"""

from __future__ import annotations

from collections.abc import Iterable

from inboundmx.app.checking import patience
from inboundmx.app.values import kind
from inboundmx.cli.printing import table
from inboundmx.model.settings import DomainSettings, LevelSettings, OutboundSettings, RecipientsSettings, Settings
from inboundmx.model.verdict import written_weight


def routes(settings: Settings) -> Iterable[str]:
    for domain in settings.sections:
        yield from ("", *_domain(domain, settings))
    for some in settings.recipients:
        yield from ("", *_recipients(some, settings))
    if settings.backup.primaries:
        yield from ("", *_backup(settings))
    yield from ("", *_outgoing(settings))
    if settings.archives:
        yield from ("", "Archives", *indented(_archives(settings)))


def indented(lines: Iterable[str]) -> Iterable[str]:
    return (f"  {line}" for line in lines)


def _domain(domain: DomainSettings, settings: Settings) -> Iterable[str]:
    hosts = " ".join(map(str, domain.primary))
    yield f"{_names(domain)}: {domain.mode} to {hosts} ({domain.balance}), tls {domain.tls}"
    if domain.description:
        yield f"  {domain.description}"
    if not domain.enabled:
        yield "  switched off: mail for it is refused, what is in the spool waits"
    deadline = kind("span").write(domain.handover_deadline)
    recipients = " ".join(domain.recipients)
    yield f"  handover {domain.handover} within {deadline}; priority {domain.priority}; recipients {recipients}"
    yield f"  {_schedule(domain)}"
    if domain.client_facts != "none":
        yield f"  {domain.client_facts.upper()} tells the primaries who the client is, where they offer it"
    if domain.outbound:
        yield f"  mail it sends leaves by {domain.outbound}"
    if limits := _limits(domain):
        yield f"  at most {', '.join(limits)} an hour"
    for level, usual in zip(domain.levels, settings.levels, strict=True):
        if level != usual:
            yield _level(level)
    if domain.blocking != settings.blocking:
        yield f"  blocking from {domain.blocking.incoming_threshold:g} on"
    for (check, outcome), weight in domain.weights.items():
        yield f"  {check}={outcome} is worth {written_weight(weight)}"
    if domain.skip_checks:
        yield f"  not counted: {' '.join(domain.skip_checks)}"


def _level(level: LevelSettings) -> str:
    actions = kind("actions").write(level.action)
    return f"  level {level.level.word}{f' from {level.threshold:g}' if level.level else ''}: {actions}"


def _recipients(some: RecipientsSettings, settings: Settings) -> Iterable[str]:
    """What is different for some recipients: what all checks are worth to them, and the levels that are said."""
    files = f", {len(some.listed)} in files" if some.listed else ""
    yield f"recipients {some.name}: {' '.join(some.match)}{files}"
    if some.description:
        yield f"  {some.description}"
    if some.greylisting is not None:
        yield f"  greylisting {kind('yes').write(some.greylisting)}"
    for level in settings.levels:
        if said := some.levels.get(level.level):
            begins = f" from {said['threshold']:g}" if "threshold" in said else ""
            action = f": {kind('actions').write(said['action'])}" if "action" in said else ""
            yield f"  level {level.level.word}{begins}{action}"
    if "incoming_threshold" in some.blocking:
        yield f"  blocking from {some.blocking['incoming_threshold']:g} on"
    for check in settings.checks:
        if check.name in (some.skip_checks or ()):
            yield f"  {check.name} does not count"
            continue
        for outcome, usual in check.weights.items():
            own = some.weights.get((check.name, outcome))
            if own is not None:
                yield f"  {check.name}={outcome} is worth {written_weight(own)} (their own)"
            elif check.for_ != "outgoing" and usual != 0:
                yield f"  {check.name}={outcome} is worth {written_weight(usual)}"


def _names(domain: DomainSettings) -> str:
    if domain.name == "*":
        return f"every other domain{f' but {chr(32).join(domain.except_)}' if domain.except_ else ''}"
    return f"{domain.name} and all names below it" if domain.subdomains else domain.name


def _limits(domain: DomainSettings) -> list[str]:
    return [
        *([f"{domain.messages_per_hour} messages"] if domain.messages_per_hour else ()),
        *([kind("size").write(domain.bandwidth_per_hour)] if domain.bandwidth_per_hour else ()),
        *([f"{domain.bounces_per_hour} with the null sender"] if domain.bounces_per_hour else ()),
    ]


def _schedule(domain: DomainSettings) -> str:
    exhausted = "held" if domain.when_exhausted == "hold" else f"bounced ({domain.bounce})"
    return f"retry {kind('retry').write(domain.retry)}: {patience(domain)}, then {exhausted}"


def _backup(settings: Settings) -> Iterable[str]:
    primaries = kind("networks").write(settings.backup.primaries)
    gateway = settings.gateway
    names = dict.fromkeys((gateway.hostname, *gateway.hostnames.values(), *gateway.hostnames, *gateway.addresses))
    yield "Backup MX of any other domain whose MX names us and, with better preference, one of the primaries"
    yield f"  primaries {primaries}; we are {' '.join(names)}{'' if gateway.addresses else ' and this machine'}"
    yield f"  {_schedule(settings.backed_up)}"


def _outgoing(settings: Settings) -> Iterable[str]:
    clients = kind("networks").write(settings.relay.allow)  # with the word whitelisted, where it stands
    yield f"Outgoing mail: {f'of {clients}, and ' if clients else ''}notices and redirected mail of our own"
    yield f"  {_schedule(settings.outgoing)}"
    if settings.delivery.source_address:
        yield f"  from {' '.join(settings.delivery.source_address)} in turns"
    serving = [outbound for outbound in settings.outbound if outbound.enabled]
    if not any(outbound.mode == "round-robin" for outbound in serving):
        yield f"  {'all other mail goes' if serving else 'goes'} directly to the mail servers of its domain (MX)"
    if settings.outbound:
        rows = [_server(outbound, settings) for outbound in settings.outbound]
        heads = ("outbound", "server", "takes", "priority", "tls", "as", "")
        yield from indented(table(heads, rows))


def _server(outbound: OutboundSettings, settings: Settings) -> tuple[str, ...]:
    takes = "its turn of all mail"
    if outbound.mode == "domains":
        senders = [_names(domain) for domain in settings.sections if domain.outbound == outbound.name]
        takes = f"what is sent by {', '.join(senders) or 'nobody'}"
    remarks = (
        "" if outbound.enabled else "switched off",
        "" if outbound.exclusive else "after direct delivery failed",
        f"from {' '.join(outbound.source_address)}" if outbound.source_address else "",
        f"by the spool told at {outbound.status_url}" if outbound.status_url else "",
        outbound.description,
    )
    return (
        outbound.name,
        " ".join(map(str, outbound.server)),
        takes,
        kind("priorities").write(outbound.priority),
        outbound.tls,
        outbound.username or "-",
        "; ".join(filter(None, remarks)),
    )


def _archives(settings: Settings) -> list[str]:
    rows = [
        (archive.name, archive.rule, "every domain" if archive.domain == "*" else archive.domain, archive.path)
        for archive in settings.archives
    ]
    return table(("archive", "keeps", "of", "in"), rows)
