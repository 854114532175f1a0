"""Messages as people keep them: one a file, in folders of any depth (Maildir as well), or many in an mbox.

Knows how they are told apart. Does not know what is in them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

_MBOX = b"From "
_QUOTED = re.compile(rb"(?m)^>(>*From )")
_LINE_LIMIT = 64 * 1024
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")


def messages(path: Path, largest: int, unreadable: Callable[[str], object]) -> Iterator[bytes]:
    """Each message, cut after ``largest`` octets. Of what cannot be read ``unreadable`` is told in a sentence, and of a
    ``path`` that is no message. In a folder such are passed over: mail software keeps lists and indexes beside mail."""
    if path.is_dir():
        for folder, folders, names in os.walk(path, onerror=lambda error: unreadable(_said(error))):
            # What mail software keeps for itself begins with a dot; a Maildir's folders do as well.
            folders.sort()
            for name in sorted(name for name in names if not name.startswith(".")):
                yield from _of_file(Path(folder) / name, largest, unreadable, lambda _: None)
    else:
        yield from _of_file(path, largest, unreadable, unreadable)


def _of_file(
    path: Path, largest: int, unreadable: Callable[[str], object], no_message: Callable[[str], object]
) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return
            first = file.read(len(_MBOX))
            if first == _MBOX:
                yield from _of_mbox(file, largest)
                return
            whole = first + file.read(largest - len(first))
            if _FIELD.match(whole):
                yield whole
            elif whole:
                no_message(f"{path}: is no message: it does not begin with a header field")
    except OSError as error:
        unreadable(_said(error))


def _of_mbox(file: IO[bytes], largest: int) -> Iterator[bytes]:
    """The first separator has begun."""
    file.readline()
    lines: list[bytes] = []
    octets, blank, whole_line = 0, False, True
    while line := file.readline(_LINE_LIMIT):
        if blank and whole_line and line.startswith(_MBOX):
            yield _QUOTED.sub(rb"\1", b"".join(lines))
            lines, octets, blank = [], 0, False
            continue
        blank = whole_line and not line.strip()
        whole_line = line.endswith(b"\n")
        if octets < largest:
            lines.append(line)
            octets += len(line)
    if lines:
        yield _QUOTED.sub(rb"\1", b"".join(lines))


def _said(error: OSError) -> str:
    return f"{error.filename}: {error.strerror or error}"
