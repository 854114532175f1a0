"""What a test cannot do without, and this machine does not give: it is skipped, or fails where all is required."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def impossible(reason: str) -> NoReturn:
    """With ``INBOUNDMX_REQUIRE_PROGRAMS=1``, as in the gate, nothing is left out unseen."""
    if os.environ.get("INBOUNDMX_REQUIRE_PROGRAMS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
