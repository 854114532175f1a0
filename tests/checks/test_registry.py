"""Every kind of check keeps to the interface."""

from __future__ import annotations

import inspect

import pytest

from inboundmx.checks.api import ALWAYS, Check, Option
from inboundmx.checks.registry import KINDS
from inboundmx.model.finding import Stage


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_a_kind_is_a_check(name: str, kind: type[Check]) -> None:
    assert kind.kind == name
    assert isinstance(kind.stage, Stage)
    assert kind.outcomes and not kind.outcomes & ALWAYS
    assert set(kind.weights) <= kind.outcomes | ALWAYS
    assert all(isinstance(option, Option) and option.help for option in kind.options)
    assert inspect.iscoroutinefunction(kind.examine)
    assert "." not in name and kind.__doc__
