"""Which configuration a command means, read or refused. Knows where an INI is looked for; ``app.settings`` reads it."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from inboundmx.cli.asking import CannotAsk

if TYPE_CHECKING:
    from inboundmx.model.settings import Settings

DEFAULT = "/etc/inboundmx.ini"


def default_config() -> str:
    return os.environ.get("INBOUNDMX_CONFIG") or DEFAULT


def settings_of(args: argparse.Namespace) -> Settings:
    """Raises CannotAsk with everything that is wrong, one a line."""
    from inboundmx.app.settings import BadSettings, load

    try:
        return load(args.config)
    except BadSettings as bad:
        raise CannotAsk("\n".join(map(str, bad.problems)), usage=True) from None
