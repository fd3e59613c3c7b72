"""What the rivals are asked, and how often: payments of many customers, each under a key of its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

API_KEY = "the-key-of-the-bench-0123456789"
PATH = "/api/payments/decide"
PAYEES = 10_000
AMOUNT_MINOR_MIN, AMOUNT_MINOR_MAX = 1_000, 9_999
"""Small enough that the shipped policy's rule about large amounts lets them pass."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who pays: `customers` of them, `c_0` and on, alike often; `c_0` besides with `favourite_share` of all payments."""

    customers: int = 10_000
    favourite_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """One load. `prefix` begins the keys and makes them unique; `rate` is in requests a second, None: each connection asks when it was answered."""

    port: int
    prefix: str
    seconds: float
    crowd: Crowd = Crowd()
    connections: int = 64
    rate: float | None = None
    connections_max: int = 2_048
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back. Times are milliseconds; in an open loop they count from the moment at which the request was to be sent.

    `statuses` counts answers by status where the load knows them; `failed` are requests without an answer. `late_p99_ms` is how late the
    generator itself was, `cpu_s` the processor time that it took.
    """

    answered: int
    accepted: int
    failed: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    cpu_s: float
    statuses: dict[str, int] | None = None
    refused_p50_ms: float = 0.0
    refused_p99_ms: float = 0.0
    refused_max_ms: float = 0.0
    late_p99_ms: float = 0.0

    @property
    def accepted_per_s(self) -> float:
        """Decisions a second."""
        return self.accepted / self.seconds if self.seconds else 0.0

    def document(self) -> dict[str, Any]:
        """For the results' file."""
        return {**asdict(self), "accepted_per_s": self.accepted_per_s}
