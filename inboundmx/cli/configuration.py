"""Which configuration a command means, read or refused. Knows where an INI is looked for; ``app.settings`` reads it."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from inboundmx.cli.asking import CannotAsk

if TYPE_CHECKING:
    from inboundmx.model.settings import Settings

DEFAULT = "/etc/inboundmx.ini"


def default_config() -> str:
    return os.environ.get("INBOUNDMX_CONFIG") or DEFAULT


class Configuration:
    """The INI at a path, read when it is needed and only as far as that. Both properties raise CannotAsk with
    everything that is wrong, one a line."""

    def __init__(self, path: str) -> None:
        self._path = path

    @cached_property
    def data(self) -> str:
        """The data folder, which is all that a question to a running gateway takes: half a second sooner than by
        reading, and understanding, everything."""
        return _data_alone(self._path) or self.settings.gateway.data

    @cached_property
    def settings(self) -> Settings:
        from inboundmx.app.settings import BadSettings, load

        try:
            return load(self._path)
        except BadSettings as bad:
            raise CannotAsk("\n".join(map(str, bad.problems)), usage=True) from None

    def place_of(self, section: str, key: str) -> str:
        """Where a key stands, as a person looks for it."""
        from inboundmx.app.settings import place_of

        return place_of(self._path, section, key)


def _data_alone(path: str) -> str:
    """``[gateway] data`` where it stands in this file for all to see, else nothing."""
    from inboundmx.app import ini

    found = ini.glance(path, "gateway")
    if found is None or "include" in found or "data" not in found:
        return ""
    data = found["data"].value
    return data if data.startswith("/") and "\n" not in data else ""
