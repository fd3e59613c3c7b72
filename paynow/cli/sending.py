"""Sends payments to a running service as a client would: some at once, each until it has an answer or its time is over, and counts what came."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import aiohttp

from paynow.clock import Clock
from paynow.payments.payment_file import PaymentLine

RETRIED = (409, 429, 503)
RETRY_FOR_S = 60.0
RETRY_AFTER_MAX_S = 30.0
CONNECTION_TRIES_MAX = 3
REQUEST_TIMEOUT_S = 30.0
FAILURES_KEPT_MAX = 20
NO_ANSWER, UNREADABLE = "no_answer", "unreadable_answer"
ENDS_THE_RUN = (NO_ANSWER, "not_authenticated", "missing_scope")
"""What the next payment would meet as well."""


@dataclass(slots=True)
class Tally:
    """What came of the payments. `latencies_s` are those of requests that brought a decision; waits before retries are not in them."""

    decisions: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    replayed: int = 0
    retries: int = 0
    latencies_s: list[float] = field(default_factory=list)
    failures: list[tuple[int, str]] = field(default_factory=list)
    """The first lines that got no decision, each with the error's code."""
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        """Payments that were sent, whatever came of them."""
        return self.decisions.total() + self.errors.total()


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one request brought: a decision, or an error's code, and how long to wait if it is worth another try."""

    decision: str | None = None
    replayed: bool = False
    error: str = ""
    retry_after_s: float | None = None


class Sender:
    """Sends payments with one API key. `sent` is told of each payment that is over."""

    def __init__(self, url: str, api_key: str, *, concurrency: int, clock: Clock, sent: Callable[[], None] = lambda: None) -> None:
        self._url = f"{url.rstrip('/')}/api/payments/decide"
        self._headers = {"X-API-Key": api_key}
        self._concurrency = concurrency
        self._clock = clock
        self._sent = sent
        self._over = False

    async def __call__(self, payments: Iterable[PaymentLine]) -> Tally:
        """Sends them, in their order, at most `concurrency` at once. A service that is gone or refuses the key ends the run early."""
        tally = Tally()
        self._over = False
        began = self._clock.monotonic()
        waiting = iter(payments)
        connector = aiohttp.TCPConnector(limit=self._concurrency)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        async with aiohttp.ClientSession(headers=self._headers, connector=connector, timeout=timeout) as session:
            await asyncio.gather(*(self._work(session, waiting, tally) for _ in range(self._concurrency)))
        tally.seconds = self._clock.monotonic() - began
        return tally

    async def _work(self, session: aiohttp.ClientSession, waiting: Iterator[PaymentLine], tally: Tally) -> None:
        for payment in waiting:
            answer = await self._until_answered(session, payment, tally)
            if answer.decision is not None:
                tally.decisions[answer.decision] += 1
                tally.replayed += answer.replayed
            else:
                tally.errors[answer.error] += 1
                if len(tally.failures) < FAILURES_KEPT_MAX:
                    tally.failures.append((payment.line, answer.error))
                self._over = self._over or answer.error in ENDS_THE_RUN
            self._sent()
            if self._over:
                return

    async def _until_answered(self, session: aiohttp.ClientSession, payment: PaymentLine, tally: Tally) -> _Answer:
        """Repeating is safe: the key gets its one decision."""
        until = self._clock.monotonic() + RETRY_FOR_S
        unanswered = 0
        while True:
            answer = await self._once(session, payment, tally)
            unanswered += answer.error == NO_ANSWER
            wait_s = answer.retry_after_s
            if wait_s is None or unanswered >= CONNECTION_TRIES_MAX or self._over or self._clock.monotonic() + wait_s > until:
                return answer
            tally.retries += 1
            await self._clock.sleep(wait_s)

    async def _once(self, session: aiohttp.ClientSession, payment: PaymentLine, tally: Tally) -> _Answer:
        began = self._clock.monotonic()
        try:
            # A redirect is not followed: it would carry the key elsewhere.
            async with session.post(self._url, json=_body(payment), allow_redirects=False) as response:
                document = _parsed(await response.read())
        except (aiohttp.ClientError, TimeoutError):
            return _Answer(error=NO_ANSWER, retry_after_s=1.0)
        if response.status == 200:
            decision = document.get("decision")
            if not isinstance(decision, str):
                return _Answer(error=UNREADABLE)
            tally.latencies_s.append(self._clock.monotonic() - began)
            return _Answer(decision, response.headers.get("Idempotent-Replayed") == "true")
        wait_s = _retry_after_s(response.headers.get("Retry-After")) if response.status in RETRIED else None
        code = document.get("code")
        return _Answer(error=code if isinstance(code, str) else f"http_{response.status}", retry_after_s=wait_s)


def percentile(sorted_values: list[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed; 0 if there are none."""
    if not sorted_values:
        return 0.0
    return sorted_values[max(0, ceil(share * len(sorted_values)) - 1)]


def _body(payment: PaymentLine) -> dict[str, str]:
    return {
        "customerId": payment.customer_id,
        "payeeId": payment.payee_id,
        "amount": payment.amount,
        "currency": payment.currency,
        "idempotencyKey": payment.key,
    }


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after_s(header: str | None) -> float:
    """Seconds, within bounds; one second if the service names none (a date is none of ours)."""
    return min(float(header), RETRY_AFTER_MAX_S) if header and header.isascii() and header.isdigit() else 1.0
