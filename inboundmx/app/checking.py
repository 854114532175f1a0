"""Whether what the settings name is there and can be used, and what an operator may not have meant.

Knows files, users, folders and how long mail is kept. Does not know routes (``route_warnings``), nor the network:
``calling`` tries the primaries.
"""

from __future__ import annotations

import datetime
import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import PurePath

from inboundmx.app import certificate, check_warnings, judging_warnings, list_warnings, route_warnings
from inboundmx.app.amounts import written_span
from inboundmx.model.custody import Host
from inboundmx.model.settings import DAY, DomainSettings, LevelSettings, Retry, Settings

# RFC 5321 4.5.4.1: "the give-up time generally needs to be at least 4-5 days".
ADVISED_PATIENCE = 4 * DAY
SMALLEST_LIMIT = 64 * 1024


def problems_at_start(settings: Settings) -> list[str]:
    """Sentences about local things without which the gateway must not start; empty when all is well."""
    problems = certificate.problems(settings.tls)
    if trouble_with_data := _unusable_folder(settings.gateway.data):
        problems.append(f"[gateway] data {settings.gateway.data} {trouble_with_data}")
    if settings.log.to != "stdout" and (trouble_with_log := _unusable_file(settings.log.to)):
        problems.append(f"[log] to {settings.log.to} {trouble_with_log}")
    for archive in settings.archives:
        if archive.rule != "none" and (trouble_with_archive := _unusable_folder(archive.path)):
            problems.append(f"[archive {archive.name}] path {archive.path} {trouble_with_archive}")
    if settings.gateway.user:
        problems += _unusable_user(settings)
    return problems


def warnings_at_start(settings: Settings) -> list[str]:
    """Sentences about what strangers could make of us: worth a line in the log whenever the gateway starts."""
    return route_warnings.exposures(settings)


def _unusable_user(settings: Settings) -> list[str]:
    """The data folder itself is given to the user at the start; those above it must let the user through. An archive
    is as it is found, or made in a folder that the user may write."""
    name, data = settings.gateway.user, settings.gateway.data
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        return [f"[gateway] user {name} does not exist on this machine"]
    if os.geteuid() != 0 or user.pw_uid == 0:
        return []
    groups = os.getgrouplist(name, user.pw_gid)

    def closed(folder: str, wanted: int) -> bool:
        found = os.stat(folder)
        shift = 6 if found.st_uid == user.pw_uid else 3 if found.st_gid in groups else 0
        return found.st_mode >> shift & wanted != wanted

    for folder in filter(os.path.isdir, map(str, PurePath(data).parents)):
        if closed(folder, stat.S_IXOTH):
            return [f"[gateway] data {data} cannot be reached by [gateway] user {name}: {folder} is closed to it"]
    problems = []
    for archive in settings.archives:
        place = next(filter(os.path.isdir, map(str, (PurePath(archive.path), *PurePath(archive.path).parents))), "/")
        inside = PurePath(archive.path).is_relative_to(data)
        if archive.rule != "none" and not inside and closed(place, stat.S_IWOTH | stat.S_IXOTH):
            problems.append(
                f"[archive {archive.name}] path {archive.path} cannot be used by [gateway] user {name}: "
                f"it may not write in {place}"
            )
    return problems


def _unusable_folder(path: str) -> str:
    """Why a folder can neither be used nor made."""
    if os.path.lexists(path):
        if not os.path.isdir(path):
            return "is not a folder"
        return "" if _allowed(path) else f"cannot be written by {_me()}"
    parent = os.path.dirname(path)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        return f"cannot be made: {parent} is not a folder"
    return "" if _allowed(parent) else f"cannot be made: {_me()} may not write in {parent}"


def _unusable_file(path: str) -> str:
    if os.path.isdir(path):
        return "is a folder"
    if os.path.lexists(path):
        return "" if os.access(path, os.W_OK, effective_ids=True) else f"cannot be written by {_me()}"
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        return f"cannot be made: there is no folder {parent}"
    return "" if _allowed(parent) else f"cannot be made: {_me()} may not write in {parent}"


def _allowed(folder: str) -> bool:
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True)


def _me() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


def gives_up_after(retry: Retry, lifetime: float) -> float:
    """Seconds from reception to the last attempt: the sum of an explicit list, or the lifetime of a repeating one."""
    return lifetime if retry.repeat_last else sum(retry.waits)


def patience(domain: DomainSettings) -> str:
    """How long mail of a domain is tried, in words: ``gives up after 24.5 h (5 attempts)``."""
    seconds = gives_up_after(domain.retry, domain.lifetime)
    attempts = "" if domain.retry.repeat_last else f" ({len(domain.retry.waits) + 1} attempts)"
    return f"gives up after {in_hours(seconds)}{attempts}"


def in_hours(seconds: float) -> str:
    """Days, hours or minutes, whichever reads well: ``5 d``, ``24.5 h``, ``90 min``."""
    if seconds >= DAY and seconds % DAY == 0:
        return f"{seconds / DAY:g} d"
    if seconds >= 7200:
        return f"{round(seconds / 3600, 2):g} h"
    return f"{round(seconds / 60, 2):g} min" if seconds >= 60 else written_span(seconds)


def warnings(settings: Settings, now: datetime.datetime) -> list[str]:
    """Sentences about what works and may still not be meant. ``now`` in UTC, with its zone."""
    gateway = settings.gateway
    found = []
    if "." not in gateway.hostname:
        found.append(f"[gateway] hostname {gateway.hostname} has no dot: others will not take it for a host name")
    ours = settings.domains or settings.everything
    if not ours and not settings.backup.primaries and not settings.relay.allow:
        found.append("there is no [domain …] section: all mail is refused")
    postmaster = gateway.postmaster.rpartition("@")[2]
    if ours and settings.domain(postmaster) is None:
        found.append(f"[gateway] postmaster {gateway.postmaster}: there is no [domain {postmaster}] to deliver it by")
    found += warnings_at_start(settings)
    found += _nobody_verified(settings) + _nobody_confirmed(settings)
    if settings.smtp.max_message_size < SMALLEST_LIMIT:
        found.append("[smtp] max_message_size is below 64KB, which RFC 5321 4.5.3.1.7 asks every server to take")
    found += certificate.warnings(settings.tls, gateway.hostname, now)
    found += _redirections("", settings.levels, settings)
    found += _unscanned(settings)
    for domain in settings.sections:
        found += _of_domain(domain, settings)
    if settings.backup.primaries:
        found += _impatience("[backup]", settings.backed_up)
    for outbound in settings.outbound:
        found += _circles(f"[outbound {outbound.name}] server", outbound.server, settings)
    found += route_warnings.of_routes(settings) + list_warnings.of_lists(settings)
    return found + judging_warnings.of_judging(settings) + check_warnings.of_checks(settings)


def _nobody_verified(settings: Settings) -> list[str]:
    """Only these checks confirm a sender, and without one whoever should be verified never is."""
    backed_up = (settings.backed_up,) if settings.backup.primaries else ()
    if any(check.kind in ("spf", "dkim") for check in settings.checks):
        return []
    for domain in (*settings.sections, *backed_up):
        if domain.enabled and domain.bounce == "verified":
            where = f"[domain {domain.name}]" if domain.name else "[backup]"
            return [
                f"{where} bounce = verified, and no [check …] uses spf or dkim: no sender can be verified, so all mail "
                f"that cannot be delivered is held, and nobody is told"
            ]
    return []


def _unscanned(settings: Settings) -> list[str]:
    """Who skips a check for viruses gets them."""
    scanning = {check.name for check in settings.checks if check.kind == "clamav"}
    said = [(f"[domain {domain.name}]", domain.skip_checks) for domain in settings.sections]
    said += [(f"[recipients {some.name}]", some.skip_checks or ()) for some in settings.recipients]
    return [
        f"{where} skip_checks names {name}: its recipients get viruses"
        for where, names in said
        for name in names
        if name in scanning
    ]


def _nobody_confirmed(settings: Settings) -> list[str]:
    if settings.greylisting.key == "network" or any(check.kind == "spf" for check in settings.checks):
        return []
    return ["[greylisting] key = domain, and no [check …] uses spf: every client is known by its network"]


def _redirections(where: str, levels: Iterable[LevelSettings], settings: Settings) -> list[str]:
    """Redirections to domains that are not ours, of levels that are not everybody's when ``where`` is a domain."""
    found = []
    for level in levels:
        if where and level in settings.levels:
            continue
        for action in level.action:
            domain = action.argument.rpartition("@")[2]
            if action.verb == "redirect" and settings.domain(domain) is None:
                place = f"[domain {where}] level.{level.level.word}.action" if where else f"[level {level.level.word}]"
                found.append(
                    f"{place}: there is no [domain {domain}]: mail for {action.argument} leaves us as outgoing"
                )
    return found


def _of_domain(domain: DomainSettings, settings: Settings) -> list[str]:
    found = _redirections(domain.name, domain.levels, settings)
    found += _impatience(f"[domain {domain.name}]", domain)
    found += _circles(f"[domain {domain.name}] primary", domain.primary, settings)
    if domain.mode == "backup" and domain.handover == "spool":
        found.append(f"[domain {domain.name}] handover = spool: refusals by the primary become notices, or held mail")
    return found


def _impatience(where: str, domain: DomainSettings) -> list[str]:
    seconds = gives_up_after(domain.retry, domain.lifetime)
    if seconds >= ADVISED_PATIENCE:
        return []
    end = "is held for an operator" if domain.when_exhausted == "hold" else "is undeliverable"
    return [
        f"{where} mail {end} after {in_hours(seconds)} without its primary; "
        f"RFC 5321 4.5.4.1 advises 4 to 5 days, for example retry = 15/30/60/90/240* with lifetime = 5d"
    ]


def _circles(where: str, hosts: Iterable[Host], settings: Settings) -> list[str]:
    ours, ports = ("localhost", "127.0.0.1", "::1", settings.gateway.hostname), _listened(settings)
    return [
        f"{where} {host} is this gateway itself: mail would go in a circle"
        for host in hosts
        if host.address in ours and host.port in ports
    ]


def _listened(settings: Settings) -> set[int]:
    """Ports of ``listen``, where they can be read off."""
    ports = set()
    for endpoint in settings.gateway.listen:
        for part in endpoint.split(":")[1:3]:
            if part.isdigit():
                ports.add(int(part))
                break
    return ports
