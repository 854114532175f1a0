"""Fixtures over ``programs``: a stage for one test, a stage for a whole module, a certificate for the run."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from network_of_its_own import network_of_its_own
from programs import Certificate, Stage, stage
from scanners import clamd, liars, rspamd, spamd

# Whoever runs the tests in the background may have us ignore Ctrl-C, and children inherit that; some are told by it.
signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["clamd", "liars", "rspamd", "spamd"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/system/" in item.path.as_posix():
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """Everything of the module takes place in a network of its own; see ``network_of_its_own``. Needs root."""
    with network_of_its_own():
        yield


@pytest.fixture
def play() -> Iterator[Stage]:
    """Where state matters: gateways and primaries of this test alone."""
    with stage() as made:
        yield made
    assert made.faults() == []


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    """Where state does not matter: started once for the module."""
    with stage() as made:
        yield made
    assert made.faults() == []


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))
