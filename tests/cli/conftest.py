"""What tests of commands share: commands run in the tests' own process, which goes on where theirs would end."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """A list switches the garbage collector off for good. Without this, all that later tests leave stays as well."""
    yield
    gc.enable()
