"""The policy: rules that turn what the tools said of a payment into a verdict. Pure; knows no store, no HTTP and no tool but by its fields."""

from paynow.policy.compiling import compile_policy
from paynow.policy.model import REASON_CODES_RESERVED, RULE_FAILED, STRICTNESS, TOOL_FAILED, Evaluation, Policy, Reason, Rule

__all__ = ["REASON_CODES_RESERVED", "RULE_FAILED", "STRICTNESS", "TOOL_FAILED", "Evaluation", "Policy", "Reason", "Rule", "compile_policy"]
