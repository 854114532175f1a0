"""Amounts: spans, sizes, numbers, weights, and the waits between attempts; how each is read and written.

Knows units and bounds. Does not know which key holds which.
"""

from __future__ import annotations

import math
import re

from inboundmx.app.words import Wrong, nearest
from inboundmx.model.settings import Retry
from inboundmx.model.verdict import Weight

SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
OCTETS = {"GB": 2**30, "MB": 2**20, "KB": 2**10, "B": 1}
LONGEST_SPAN = 3650 * 86400.0
LONGEST_RETRY = 200

_SPAN = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)([a-z]*)", re.ASCII)
_SIZE = re.compile(r"(\d{1,18}) ?([a-z]*)", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d{1,12}(\.\d{0,6})?|\.\d{1,6})", re.ASCII)
_MINUTES = re.compile(r"\d{1,7}(?:\.\d{1,4})?", re.ASCII)


def span(text: str) -> float:
    """``90s 15m 24h 36d`` as seconds."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise Wrong("is no span; write it like 90s, 15m, 24h or 36d")
    number, unit = match.groups()
    if not unit:
        raise Wrong(f"a bare number has no unit; write {number}m or {number}s")
    if unit not in SECONDS:
        raise Wrong(f"{unit} is no unit of time{nearest(unit, SECONDS)}")
    seconds = float(number) * SECONDS[unit]
    if seconds > LONGEST_SPAN:
        raise Wrong("is longer than 3650d")
    return round(seconds, 6)


def written_span(seconds: float) -> str:
    for unit, length in SECONDS.items():
        if seconds and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{plain(seconds)}s"


def limit(text: str) -> float:
    """A span that ends a wait: more than nothing."""
    seconds = span(text)
    if seconds <= 0:
        raise Wrong("must be more than 0s")
    return seconds


def size(text: str) -> int:
    """``30MB 256KB`` as octets."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise Wrong("is no size; write it like 30MB or 256KB")
    number, unit = match[1], match[2].upper()
    if not unit:
        raise Wrong(f"a bare number has no unit; write {number}MB or {number}KB")
    if unit not in OCTETS:
        raise Wrong(f"{match[2]} is no unit of size{nearest(unit, OCTETS)}")
    octets = int(number) * OCTETS[unit]
    if not 0 < octets <= 2**50:
        raise Wrong("must be more than nothing and at most 1048576GB")
    return octets


def written_size(octets: int) -> str:
    unit, factor = next((unit, factor) for unit, factor in OCTETS.items() if octets % factor == 0)
    return f"{octets // factor}{unit}"


def whole(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise Wrong(f"must be a whole number from {low} to {high}")
    return int(text)


def number(text: str) -> float:
    """A finite number."""
    if not _NUMBER.fullmatch(text):
        raise Wrong("is no number; write it like 15 or 2.5")
    return float(text)


def weight(text: str) -> Weight:
    """A finite number, ``reject``, ``defer`` or ``quarantine``."""
    if text == "reject":
        return "reject"
    if text == "defer":
        return "defer"
    if text == "quarantine":
        return "quarantine"
    if not _NUMBER.fullmatch(text):
        near = nearest(text, ("reject", "defer", "quarantine"))
        raise Wrong(f"is no weight{near if 'mean' in near else ''}; write a number, reject, defer or quarantine")
    return float(text)


def plain(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be written")
    return f"{value:.6f}".rstrip("0").rstrip(".")


def retry(text: str) -> Retry:
    """``10/10/10/1440``: minutes between attempts, a last ``*`` repeating."""
    repeat = text.endswith("*")
    parts = [part.strip() for part in text.removesuffix("*").split("/")]
    if len(parts) > LONGEST_RETRY:
        raise Wrong(f"has {len(parts)} waits; at most {LONGEST_RETRY}, and a last * repeats")
    waits = []
    for part in parts:
        if part.endswith("*"):
            raise Wrong("only the last wait may have a *")
        if not _MINUTES.fullmatch(part):
            unit = "; minutes are written without a unit" if _SPAN.fullmatch(part) else ""
            raise Wrong(f"{part or 'nothing'} is no number of minutes{unit}; write it like 10/10/10/1440 or 15/30*")
        seconds = round(float(part) * 60, 3)
        if not 0 < seconds <= LONGEST_SPAN:
            raise Wrong(f"{part} minutes between attempts: must be more than 0 and at most 3650 days")
        waits.append(seconds)
    return Retry(tuple(waits), repeat)


def written_retry(value: Retry) -> str:
    return "/".join(plain(seconds / 60) for seconds in value.waits) + ("*" if value.repeat_last else "")
