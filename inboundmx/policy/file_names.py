"""Whether a file's name is one that no stranger should send: programs, scripts, and names that deceive.

Knows names as Windows and mail software take them. Does not know content.
"""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Iterable

# Extensions of what runs when it is opened, on one system or another, or mounts as a disk that holds such.
RUNS = (
    *("ade", "adp", "apk", "app", "appinstaller", "application", "appref-ms", "appx", "appxbundle", "bas", "bat"),
    *("chm", "cmd", "com", "command", "cpl", "deb", "desktop", "diagcab", "dll", "dmg", "drv", "exe", "gadget"),
    *("hlp", "hta", "img", "inf", "ins", "iqy", "iso", "isp", "jar", "jnlp", "js", "jse", "ksh", "lib", "library-ms"),
    *("lnk", "mde", "mjs", "msc", "msh", "msi", "msix", "msixbundle", "msp", "mst", "nsh", "ocx", "one", "osd", "pcd"),
    *("pif", "pkg", "ps1", "ps1xml", "ps2", "psc1", "psd1", "psm1", "reg", "rpm", "scf", "scr", "sct", "search-ms"),
    *("settingcontent-ms", "shb", "shs", "slk", "sys", "theme", "themepack", "udl", "url", "vb", "vbe", "vbs", "vhd"),
    *("vhdx", "vxd", "website", "wsc", "wsf", "wsh", "xbap", "xll", "xnk"),
)
# Stands for these among the globs of an operator.
USUAL = "usual"
# Globs that are taken, and letters of a name that are judged at each of its ends.
GLOBS = 1000
ENDS = 500

# Signs that turn the direction of reading around, so that "exe.fdp" reads as "pdf.exe" or the reverse.
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")
_UNSEEN = re.compile("[\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200d\u2060\ufeff]")
_CLASS_ID = re.compile(r"\.\{[0-9a-f-]{30,40}\}$")


class Names:
    """Globs that a name must not match, case aside; a word without * ? [ is an extension."""

    __slots__ = ("_extensions", "_pattern")

    def __init__(self, globs: Iterable[str]) -> None:
        """Raises ValueError for too many."""
        extensions: set[str] = set()
        patterns: list[str] = []
        for number, glob in enumerate(globs):
            if number >= GLOBS:
                raise ValueError(f"names has more than {GLOBS} words")
            word = glob.lower()
            if word == USUAL:
                extensions.update(RUNS)
            elif re.fullmatch(r"\*?\.?[\w-]+", word):
                extensions.add(word.lstrip("*."))
            else:
                patterns.append(_bounded(word))
        self._extensions = frozenset(extensions)
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def wrong(self, name: str) -> str:
        """Why a file must not be named so; empty when it may."""
        if _TURNING.search(name):
            return "a name that reads otherwise than it is"
        for said in _readings(name):
            extension = said.rpartition(".")[2] if "." in said else ""
            if extension in self._extensions:
                return f"a name ending in .{extension}"
            if self._pattern is not None and self._pattern.fullmatch(said):
                return "a name that is not allowed"
            if _CLASS_ID.search(said):
                return "a name that ends in a class of Windows"
        return ""


def _bounded(glob: str) -> str:
    """As a regular expression in which a run of * is one, and none gives back what it took: time stays linear."""
    return fnmatch.translate(re.sub(r"\*+", "*", glob))


def _readings(name: str) -> list[str]:
    """The name as it is, and as those read it who stop at an octet of 0 or leave out what cannot be seen."""
    if len(name) > 2 * ENDS:
        name = name[:ENDS] + name[-ENDS:]
    found: dict[str, None] = {}
    for said in (name, name.partition("\0")[0], _UNSEEN.sub("", name)):
        plain = unicodedata.normalize("NFKC", said).lower() if not said.isascii() else said.lower()
        last = re.split(r"[\\/]", plain.rstrip("\\/"))[-1]
        # Windows leaves out blanks and dots at the end, and what names a stream of the file; mail software leaves
        # out quotes, and puts another sign in the place of a colon.
        for shown in (last, last.partition(":")[0]):
            found[shown.rstrip(". \t\u3002\"'")] = None
    return list(found)
