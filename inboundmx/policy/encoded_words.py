"""Text that was written in octets: encoded words (RFC 2047), and names of charsets.

Knows which charsets are read. Does not know fields.
"""

from __future__ import annotations

import binascii
import re

_ENCODED = re.compile(r"=\?([A-Za-z0-9_.:+-]{1,40})(?:\*[A-Za-z0-9-]{1,40})?\?([bBqQ])\?([^?]*)\?=")
_BETWEEN = re.compile(r"(\?=)[ \t\r\n]+(?==\?)")
# Only these reach Python's codecs: any other name a stranger thinks of would be looked for on disk, and remembered.
_CHARSETS = frozenset(
    ["utf-8", "utf8", "us-ascii", "ascii", "koi8-r", "koi8-u", "gb2312", "gbk", "gb18030", "big5"]
    + ["shift_jis", "iso-2022-jp", "euc-jp", "euc-kr", "ks_c_5601-1987", "utf-7", "utf-16", "utf-16le", "utf-16be"]
    + [f"iso-8859-{part}" for part in range(1, 17) if part != 12]
    + [f"windows-125{page}" for page in range(9)]
)


def decoded(text: str) -> str:
    """The text with its encoded words decoded; what cannot be decoded stays as it is, or is replaced. Never raises."""
    if "=?" not in text:
        return text
    return _ENCODED.sub(_word, _BETWEEN.sub(r"\1", text))


def text_of(octets: bytes, charset: str) -> str:
    """Read in ``charset``, or as UTF-8 where that is none we know; undecodable octets replaced. Never raises."""
    charset = charset.lower()
    return octets.decode(charset if charset in _CHARSETS else "utf-8", "replace")


def _word(match: re.Match[str]) -> str:
    charset, encoding, encoded = match.groups()
    octets = encoded.encode("utf-8", "replace")
    try:
        if encoding in "qQ":
            octets = binascii.a2b_qp(octets, header=True)
        else:
            octets = binascii.a2b_base64(octets.rstrip(b"=") + b"==")
    except binascii.Error:
        return match[0]
    return text_of(octets, charset)
