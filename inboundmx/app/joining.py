"""What several workers tell, made one view. Knows rows as JSON values; does not know sockets, nor who was asked.

An operator sees one gateway: counts are summed, a primary has one line, lists stand in the order of time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]

# Of one host, as several workers see it: the worst.
_WORST = ("open", "half-open", "closed")
_SUMMED = ("connections", "busy", "opening", "waiting", "backlog_waiting")


def joined_status(rows: Sequence[Mapping[str, Any]], workers: Sequence[Row], settings: str) -> Row:
    """One process out of several. ``workers`` are told as they are; ``settings`` is the fingerprint of the settings."""
    return {
        "running": True,
        "spool": _sums(row["spool"] for row in rows) or dict.fromkeys(("active", "held", "quarantined", "expired"), 0),
        "spool_octets": sum(row["spool_octets"] for row in rows),
        "oldest_seconds": max((row["oldest_seconds"] for row in rows), default=0.0),
        "free_octets": min((row["free_octets"] for row in rows), default=0),
        "primaries": _hosts(host for row in rows for host in row["primaries"]),
        "settings": settings,
        "queues": _queues(rows),
        "claimed": sum(row.get("claimed", 0) for row in rows),
        "throttled": {name: limit for row in rows for name, limit in row.get("throttled", {}).items()},
        "workers": list(workers),
        "connections": sum(row.get("connections", 0) for row in rows),
        "services": _services(service for row in rows for service in row.get("services", ())),
        "paused": next((row["paused"] for row in rows if row.get("paused")), []),
    }


def _sums(counted: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for counts in counted:
        for name, count in counts.items():
            sums[name] = sums.get(name, 0) + count
    return sums


def _queues(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    queues: dict[str, list[Mapping[str, int]]] = {}
    for row in rows:
        for domain, counts in row.get("queues", {}).items():
            queues.setdefault(domain, []).append(counts)
    return {domain: _sums(counts) for domain, counts in queues.items()}


def _hosts(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    hosts: dict[str, Row] = {}
    for row in rows:
        known = hosts.get(row["host"])
        if known is None:
            hosts[row["host"]] = dict(row)
            continue
        for name in _SUMMED:
            known[name] = known.get(name, 0) + row.get(name, 0)
        known["service_seconds"] = max(known.get("service_seconds", 0.0), row.get("service_seconds", 0.0))
        if _badness(row) < _badness(known):
            known["state"] = row["state"]
        known["last_error"] = known.get("last_error") or row.get("last_error", "")
    return sorted(hosts.values(), key=_badness)


def _badness(row: Mapping[str, Any]) -> int:
    return _WORST.index(row["state"]) if row.get("state") in _WORST else len(_WORST)


def _services(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """As whoever asked last saw each; answers and failures of all."""
    services: dict[str, Row] = {}
    for row in rows:
        known = services.get(row["service"])
        if known is None:
            services[row["service"]] = dict(row)
            continue
        answered, failed = known["answered"] + row["answered"], known["failed"] + row["failed"]
        if row["last_at"] > known["last_at"]:
            known |= row
        known |= {"answered": answered, "failed": failed}
    return sorted(services.values(), key=lambda row: row["state"] != "down")


def health_word(rows: Sequence[Mapping[str, Any]]) -> str:
    """Why no mail can be taken into the spool, a word; empty when it can."""
    if not rows:
        return "no-worker"
    return next((worker["trouble"] for row in rows for worker in row["workers"] if worker.get("trouble")), "")
