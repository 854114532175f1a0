"""What a test cannot do without, and this machine does not give: it is skipped, or fails where all is required."""

from __future__ import annotations

import importlib
import os
from typing import Any, NoReturn

import pytest


def impossible(reason: str) -> NoReturn:
    """With ``INBOUNDMX_REQUIRE_PROGRAMS=1``, as in the gate, nothing is left out unseen."""
    if os.environ.get("INBOUNDMX_REQUIRE_PROGRAMS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def needed(module: str) -> Any:
    """A module of an extra, imported."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        impossible(f"{module} is not installed: it is among the extra test")
