"""Tools, payments and outputs that the policy's tests share."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from paynow.errors import ConfigurationFault, ConfigurationRefused
from paynow.plugin_api import Field, Payment, choice, flag, real, text, whole
from paynow.policy import Policy, compile_policy

ORIGIN = "config/policy.toml"

TOOLS: dict[str, dict[str, Field]] = {
    "getBalance": {"available_minor": whole(minimum=0), "reserved_minor": whole(minimum=0)},
    "getDevice": {
        "score": real(minimum=0, maximum=1),
        "age_days": whole(minimum=0, maximum=3650),
        "delta": whole(),
        "drift": real(),
        "trusted": flag(),
        "kind": choice("phone", "tablet", "desk"),
        "label": text(),
    },
}

OUTPUTS: dict[str, dict[str, Any]] = {
    "getBalance": {"available_minor": 100_000, "reserved_minor": 0},
    "getDevice": {"score": 0.25, "age_days": 30, "delta": -4, "drift": 1.5, "trusted": True, "kind": "phone", "label": "mine"},
}

PAYMENT = Payment(UUID(int=1), "c_123", "p_789", 12_550, "USD")


def rule(when: str, *, identity: str = "r", then: str = "review", message: str = "It looks odd") -> str:
    """One rule as TOML; `when` may have any quotes but three single ones."""
    return f"[[rule]]\nid = \"{identity}\"\nwhen = '''{when}'''\nthen = \"{then}\"\nmessage = \"{message}\"\n"


def score_rule(when: str, score: object, *, identity: str = "r", message: str = "It looks odd") -> str:
    """One rule with a score, in as many lines."""
    return f"[[rule]]\nid = \"{identity}\"\nwhen = '''{when}'''\nscore = {score}\nmessage = \"{message}\"\n"


def shadow(written: str) -> str:
    """The same rule, only watched."""
    return f'{written}mode = "shadow"\n'


def policy(*rules: str, default: str = "allow") -> Policy:
    return compile_policy(f'default = "{default}"\n' + "".join(rules), origin=ORIGIN, tools=TOOLS)


def faults(text: str) -> list[ConfigurationFault]:
    """What is wrong with a policy's text; empty if nothing is."""
    try:
        compile_policy(text, origin=ORIGIN, tools=TOOLS)
    except ConfigurationRefused as refused:
        return list(refused.faults)
    return []


def faults_of_when(when: str) -> list[str]:
    """The messages with which a rule's condition is refused, without the lines that show the place."""
    return [fault.message.split("\n")[0] for fault in faults(rule(when))]
