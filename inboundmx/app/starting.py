"""What a start takes that only root may be allowed to do: folders for somebody else, and becoming him.

Knows what an operator is told when it cannot be. Does not know what runs afterwards.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from inboundmx.model.settings import GatewaySettings, Settings
from inboundmx.storage.disk import sync_folder

# Keys of [gateway] that cannot change while sockets and files are open.
FIXED = ("data", "user", "workers")


class CannotStart(Exception):
    """Something that a setting names is not as it should be. ``problems``: one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems

    def tell(self) -> None:
        for problem in self.problems:
            # twistd has made its log of sys.stderr by then.
            print(f"inboundmx: {problem}", file=sys.__stderr__)


def spool_folder(data: Path, number: int) -> Path:
    """Where a worker keeps what it promised; the first one's is also that of a gateway in one process."""
    return data / "spool" / str(number)


def make_folders(gateway: GatewaySettings, numbers: Iterable[int]) -> None:
    """The data folder and a spool for each worker, given to the user that we become. Raises CannotStart."""
    data = Path(gateway.data)
    folders = [data, data / "spool", *(spool_folder(data, number) for number in numbers)]
    try:
        data.parent.mkdir(parents=True, exist_ok=True)
        for folder in folders:
            folder.mkdir(mode=0o700, exist_ok=True)
            # A synced file is of no use when power goes and takes the name of its folder along.
            with contextlib.suppress(PermissionError):  # It was there before us.
                sync_folder(str(folder.parent))
        if gateway.user and os.geteuid() == 0:
            user = pwd.getpwnam(gateway.user)
            for folder in folders:
                os.chown(folder, user.pw_uid, user.pw_gid)
    except KeyError:
        raise CannotStart([f"[gateway] user: there is no user {gateway.user}"]) from None
    except OSError as trouble:
        raise CannotStart([f"the data folder {data} cannot be used: {trouble.strerror}"]) from trouble


def become_user(name: str) -> None:
    """For good: the saved ids go as well, so there is no way back."""
    if not name or os.geteuid() != 0:
        return
    user = pwd.getpwnam(name)
    os.initgroups(name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)


def shown(address: Any) -> str:
    """An address that is listened on, as an operator writes it."""
    host = getattr(address, "host", None)
    if host is None:
        return str(getattr(address, "name", address))
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


def refuse_fixed(now: Settings, new: Settings) -> None:
    """Raises ValueError when the new settings ask for what only a restart can change."""
    changed = [key for key in FIXED if getattr(new.gateway, key) != getattr(now.gateway, key)]
    if changed:
        raise ValueError(f"[gateway] {', '.join(changed)}: needs a restart")
    if new.console.listen != now.console.listen:
        raise ValueError("[console] listen: needs a restart")
