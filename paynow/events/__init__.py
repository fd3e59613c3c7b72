"""Events on their way out: the envelope they travel in, and the relay that hands them from the outbox to the sinks.

Knows nothing of how an event comes to be, nor of what a sink does with it.
"""

from paynow.events.relay import EventSource, Relay, RelayMetrics

__all__ = ["EventSource", "Relay", "RelayMetrics"]
