"""Events on their way out: the envelope they travel in, and the relays that hand them to the sinks.

Knows nothing of how an event comes to be, nor of what a sink does with it.
"""

from paynow.events.lane import LaneMetrics
from paynow.events.relay import Relay
from paynow.events.source import EventSource

__all__ = ["EventSource", "LaneMetrics", "Relay"]
