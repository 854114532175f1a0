"""What an operator may not have meant of levels, thresholds and those for whom something else holds.

Knows what becomes of mail that nothing speaks against. Does not know what any check sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inboundmx.model.settings import BlockingSettings, LevelSettings, Settings
from inboundmx.model.verdict import Action

_GONE = {"reject": "refused", "discard": "discarded"}


def of_judging(settings: Settings) -> list[str]:
    """Sentences about ``[level …]``, ``[blocking]`` and ``[recipients …]``."""
    blocks = any("blocking" in check.counts_for for check in settings.checks)
    found = _everything_gone("", settings.levels) + _everything_blocked("[blocking] ", settings.blocking, blocks)
    for domain in settings.sections:
        if domain.levels != settings.levels:
            found += _everything_gone(f"[domain {domain.name}] ", domain.levels)
        if domain.blocking != settings.blocking:
            found += _everything_blocked(f"[domain {domain.name}] blocking.", domain.blocking, blocks)
    for some in settings.recipients:
        for pattern in some.match:
            domain_name = pattern.rpartition("@")[2]
            if _is_name(domain_name) and not _may_be_ours(domain_name, settings):
                found.append(f"[recipients {some.name}] match = {pattern}: there is no [domain {domain_name}]")
    return found


def _everything_gone(where: str, levels: Sequence[LevelSettings]) -> list[str]:
    """Where a level that is reached by a sum of 0 lets mail go nowhere."""
    level = max((level for level in levels if level.threshold <= 0), key=lambda level: level.level, default=levels[0])
    for key, fate in (("action", _fate(level.action)), ("outgoing_action", _fate(level.outgoing_action or ()))):
        if fate:
            of_level = f"level.{level.level.word}.{key}" if where else f"[level {level.level.word}] {key}"
            return [f"{where}{of_level}: mail that nothing speaks against is {fate}"]
    return []


def _fate(actions: Iterable[Action]) -> str:
    return next((_GONE[action.verb] for action in actions if action.verb in _GONE), "")


def _everything_blocked(where: str, blocking: BlockingSettings, blocks: bool) -> list[str]:
    sums = (("incoming_threshold", blocking.incoming_threshold), ("outgoing_threshold", blocking.outgoing_threshold))
    return [
        f"{where}{key} = {threshold:g}: mail that nothing speaks against is refused"
        for key, threshold in (sums if where.startswith("[blocking]") else sums[:1])
        if blocks and threshold <= 0
    ]


def _is_name(domain: str) -> bool:
    """A pattern such as ``*@sales.a.example`` names a domain, ``abuse@*`` and ``file:/path`` do not."""
    return not any(sign in domain for sign in "*:/")


def _may_be_ours(domain: str, settings: Settings) -> bool:
    return bool(settings.backup.primaries) or settings.domain(domain) is not None
