"""An input of a fuzzer, read as a story: octets that are said, and between them what else happens.

Octets stand for themselves, so that a corpus can be read and a dictionary helps. 0xFF, which no UTF-8 text holds, is
followed by a letter, and that by one octet that says how much or which; a letter nobody knows is 0xFF said aloud.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

MARK = 0xFF
CUT = "|"


def steps(octets: bytes, letters: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
    """Each is ("", 0, octets said in one piece) or (letter, argument, b""). ``CUT`` only ends a piece."""
    said = bytearray()
    at, end = 0, len(octets)
    while at < end:
        mark = octets.find(MARK, at)
        if mark < 0 or mark + 1 >= end:
            said += octets[at:]
            break
        said += octets[at:mark]
        letter = chr(octets[mark + 1])
        if letter != CUT and letter not in letters:
            said.append(MARK)
            at = mark + 1 + (octets[mark + 1] == MARK)
            continue
        if said:
            yield "", 0, bytes(said)
            said.clear()
        at = mark + 2
        if letter != CUT:
            yield letter, octets[at] if at < end else 0, b""
            at += 1
    if said:
        yield "", 0, bytes(said)
