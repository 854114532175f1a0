"""What kind of file octets are, by how they begin: those that matter to whoever guards a mailbox.

Knows signatures. Does not know names, nor which kinds are allowed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Octets that are needed to tell.
HEAD = 4096

WORDS: Mapping[str, str] = {
    "pe": "a program or library of Windows or DOS",
    "elf": "a program or library of Linux and others",
    "macho": "a program or library of macOS",
    "java": "a class of Java",
    "wasm": "WebAssembly",
    "msi": "an installer of Windows",
    "lnk": "a shortcut of Windows",
    "url": "a shortcut to an address",
    "script": "a script, #! in front",
    "hta": "HTML that runs as a program",
    "chm": "compiled help of Windows",
    "onenote": "a section of OneNote",
    "iso": "an image of a disk (ISO 9660)",
    "vhd": "an image of a disk (VHD, VHDX)",
    "swf": "Flash",
    "cab": "a cabinet of Windows",
    "ace": "an archive of a kind that hardly anything opens (ACE, ARJ, LZH, ALZ, EGG)",
    "zip": "a zip archive",
    "rar": "a RAR archive",
    "7z": "a 7z archive",
    "tar": "a tar archive",
    "gzip": "compressed with gzip",
    "bzip2": "compressed with bzip2",
    "xz": "compressed with xz or lzma",
    "zstd": "compressed with zstd",
    "tnef": "an envelope of Outlook (winmail.dat)",
    "ole": "an old Office document, or another compound file",
    "rtf": "Rich Text",
    "pdf": "PDF",
    "html": "HTML",
}
# Kinds with other files in them that can be looked into, and that one, which holds macros, to be read whole.
ARCHIVES = frozenset({"zip", "rar", "7z", "tar", "gzip", "bzip2", "xz", "zstd", "tnef"})
WHOLE = ARCHIVES | {"ole"}

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK\x06\x08", "zip"),
    (b"PK00PK\x03\x04", "zip"),
    (b"PK\x07\x08PK\x03\x04", "zip"),
    (b"Rar!\x1a\x07", "rar"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x5d\0\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x78\x9f\x3e\x22", "tnef"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (b"\x7fELF", "elf"),
    (b"\xfe\xed\xfa\xce", "macho"),
    (b"\xfe\xed\xfa\xcf", "macho"),
    (b"\xce\xfa\xed\xfe", "macho"),
    (b"\xcf\xfa\xed\xfe", "macho"),
    (b"\0asm", "wasm"),
    (b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F", "lnk"),
    (b"ITSF\x03\0\0\0", "chm"),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", "onenote"),
    (b"MSCF\0\0\0\0", "cab"),
    (b"conectix", "vhd"),
    (b"vhdxfile", "vhd"),
    (b"CWS", "swf"),
    (b"FWS", "swf"),
    (b"ZWS", "swf"),
    (b"\x60\xea", "ace"),
    (b"ALZ\x01", "ace"),
    (b"EGGA", "ace"),
    (b"{\\rt", "rtf"),
)
_FIRST = frozenset(signature[0] for signature, _ in _SIGNATURES)
# "bzip2" says its block size; Flash its version; and so on: two letters or three are not enough.
_SURE: Mapping[str, re.Pattern[bytes]] = {
    "bzip2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
    "gzip": re.compile(rb"\x1f\x8b\x08[\0-\x1f]"),
    "xz": re.compile(rb"\xfd7zXZ\0|\x5d\0\0[\0-\xff]{2}(?:\xff{8}|[\0-\xff]{5}\0{3})"),
    "swf": re.compile(rb"[CFZ]WS[\x01-\x32][\0-\xff]{3}[\0\x01]"),
    "ace": re.compile(rb"\x60\xea[\0-\xff][\0-\x0a]|ALZ|EGGA"),
}
_SHORTCUT = re.compile(rb"(?i)\[InternetShortcut\]")
_MARKUP = re.compile(rb"(?i)<(?:!doctype html|html|head|body|script|hta:application)\b")
_PROGRAM = re.compile(rb"(?i)<hta:application\b")
_INSTALLER = b"\x84\x10\x0c\0\0\0\0\0\xc0\0\0\0\0\0\0F"


def true_type(octets: bytes) -> str:
    """A word of WORDS, or empty. ``octets``: a file, or HEAD octets of it; disk images show in the whole alone."""
    first = octets[:1]
    if first and first[0] in _FIRST:
        for signature, word in _SIGNATURES:
            if octets.startswith(signature):
                sure = _SURE.get(word)
                if sure is not None and not sure.match(octets):
                    continue
                # An installer is a compound file whose root says so, in the sector where its directory begins.
                return "msi" if word == "ole" and _INSTALLER in octets else word
    return _otherwise(octets)


def _otherwise(octets: bytes) -> str:
    """What begins otherwise, or not at the beginning."""
    if octets.startswith(b"\xca\xfe\xba\xbe"):
        # Few architectures in one file, or the version of a class: 45 and more.
        return "macho" if octets[4:7] == b"\0\0\0" and octets[7:8] < b"\x2d" else "java"
    if octets.startswith((b"MZ", b"ZM")):
        if any(octet < 9 for octet in octets[2:64]):
            return "pe"
    elif octets.startswith(b"#!"):
        return "script"
    elif octets[2:5] == b"-lh" and octets[6:7] == b"-":
        return "ace"
    if octets[257:262] == b"ustar":
        return "tar"
    if octets[32769:32774] == b"CD001":
        return "iso"
    text = octets[:HEAD].lstrip(b"\xef\xbb\xbf \t\r\n\0")
    if text.startswith(b"%PDF-"):
        return "pdf"
    if text.startswith(b"["):
        return "url" if _SHORTCUT.match(text) else ""
    if b"<" in text[:1024] and _MARKUP.search(text):
        return "hta" if _PROGRAM.search(text) else "html"
    return ""
