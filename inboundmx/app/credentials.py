"""Names and passwords in the INI. Knows that a password may stand in a file, and what belongs together; does not know
who asks for them. No problem it reports repeats a password.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from inboundmx.app.words import Wrong

if TYPE_CHECKING:
    from inboundmx.app.ini import Section
    from inboundmx.app.reading import Reading

IN_FILE = "file:"
LONGEST_SECRET = 1024


def secret(text: str, folder: str) -> str:
    """The secret itself, or the first line of the file that ``file:PATH`` names, blanks at its ends taken away. A
    relative path starts at ``folder``."""
    if "\n" in text:
        raise Wrong("must stand on one line")
    found = _first_line(text.removeprefix(IN_FILE), folder) if text.startswith(IN_FILE) else text
    if not found.isprintable() or len(found) > LONGEST_SECRET:
        raise Wrong(f"a password is at most {LONGEST_SECRET} printable characters")
    return found


def _first_line(name: str, folder: str) -> str:
    path = os.path.normpath(os.path.join(folder, name))
    if not name:
        raise Wrong("names no file; write file:/path")
    try:
        # A pipe would keep us waiting for whoever writes into it.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise Wrong(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise Wrong(f"{path} is no file")
        if mode & stat.S_IROTH:
            raise Wrong(f"{path} can be read by everybody here; chmod o-r {path}")
        line = os.read(handle, 5 * LONGEST_SECRET).partition(b"\n")[0]
    except OSError as error:
        raise Wrong(f"{path} cannot be read: {error.strerror or error}") from None
    finally:
        os.close(handle)
    try:
        found = line.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise Wrong(f"the first line of {path} is not UTF-8") from None
    if not found:
        raise Wrong(f"the first line of {path} is empty")
    return found


def paired(reading: Reading, section: Section, username: str = "username", password: str = "password") -> None:
    """A name without a password, or a password without a name, could never be used."""
    given = {key: entry for key in (username, password) if (entry := section.entries.get(key)) and entry.value}
    if len(given) == 1:
        (key, entry), (missing,) = *given.items(), {username, password} - given.keys()
        reading.problems.append(entry.problem(f"{missing} is missing: {key} is of no use without it"))
