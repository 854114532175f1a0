"""Whether an Office document brings programs of its own.

Knows where such stand in old (OLE) and new (zip) documents, and in those that are text. Does not read them.
"""

from __future__ import annotations

import re

# Streams of a compound file, as its directory names them.
_VBA = "_VBA_PROJECT".encode("utf-16-le")
_SEALED = ("EncryptedPackage".encode("utf-16-le"), "EncryptedSummary".encode("utf-16-le"))
_WORKBOOK = "Workbook".encode("utf-16-le")
# A record of a workbook that lists a sheet of Excel 4.0 macros: its length, place, visibility, kind, and name.
_MACRO_SHEET = re.compile(rb"(?s)\x85\0(.)\0.{4}[\0-\x02]\x01([\x01-\x1f])([\0\x01])")
# Octets searched at once, and those of such a record that are looked at.
_PIECE, _RECORD = 1024 * 1024, 16
# Names of files in a document that is a zip archive.
_PARTS = re.compile(
    r"(?i)(?:^|/)(?:vbaproject\.bin|vbadata\.xml)$|(?:^|/)xl/(?:intl)?macrosheets/|^basic/.*\.xml$|^scripts/."
)
# Word's XML and HTML hold the same in base64; the second is what it begins with then.
_IN_TEXT = (b"editdata.mso", b"QWN0aXZlTWltZ", b"vbaProject.bin")


def in_compound_file(octets: bytes) -> bool:
    if _VBA in octets:
        return True
    if _WORKBOOK not in octets:
        return False
    # In pieces, each reaching a little into the next: one long search would hold up every other thread.
    return any(
        match[1][0] == 8 + match[2][0] * (1 + match[3][0])
        for start in range(0, len(octets), _PIECE)
        for match in _MACRO_SHEET.finditer(octets, start, start + _PIECE + _RECORD)
    )


def sealed_compound_file(octets: bytes) -> bool:
    return any(name in octets for name in _SEALED)


def is_part(name: str) -> bool:
    """``name``: of a file in a zip archive."""
    return _PARTS.search(name) is not None


def in_text(octets: bytes) -> bool:
    return any(mark in octets for mark in _IN_TEXT)
