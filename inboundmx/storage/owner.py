"""Whose files they are. Knows that a command run as root must not leave files that the gateway's user cannot open."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable


def give_to_owner_of(folder: str, paths: Iterable[str]) -> None:
    """When we are root: hands files over to the owner of ``folder``. What cannot be is left as it is."""
    if os.geteuid() != 0:
        return
    owner = os.stat(folder)
    for path in paths:
        with contextlib.suppress(OSError):
            found = os.lstat(path)
            if (found.st_uid, found.st_gid) != (owner.st_uid, owner.st_gid):
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
