"""The agent: a deterministic orchestrator that calls a payment's tools within limits and keeps the trace of what they said.

It knows nothing of HTTP, of how the policy decides, or of what PostgreSQL's tables look like.
"""

from paynow.agent.observers import Observer
from paynow.agent.orchestrator import Agent, Gathered, Meters
from paynow.agent.plan import Plan, PlannedTool, make_plan
from paynow.agent.ports import Ports
from paynow.agent.retry import Deadline
from paynow.agent.trace import Trace

__all__ = ["Agent", "Deadline", "Gathered", "Meters", "Observer", "Plan", "PlannedTool", "Ports", "Trace", "make_plan"]
