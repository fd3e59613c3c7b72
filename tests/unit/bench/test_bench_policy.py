"""The policy of the bench is the shipped one with three limits raised, and a change of the shipped one is noticed."""

from __future__ import annotations

import pytest

from bench.servers.policy import RAISED, raised
from paynow.resources import folder

SHIPPED = (folder("config") / "policy.toml").read_text(encoding="utf-8")


def test_only_the_limits_differ_from_the_shipped_policy() -> None:
    changed = [(old, new) for old, new in zip(SHIPPED.splitlines(), raised(SHIPPED).splitlines(), strict=True) if old != new]
    assert len(changed) == len(RAISED) == 3


def test_a_limit_that_is_not_found_is_an_error() -> None:
    with pytest.raises(ValueError, match="attempts_1m"):
        raised(SHIPPED.replace("attempts_1m > 10", "attempts_1m > 20"))
