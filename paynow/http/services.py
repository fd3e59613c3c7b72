"""What the handlers hold: the use cases and figures behind the routes, made by the composition root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from paynow.cases.work import CaseWork
from paynow.explain.service import Explanations
from paynow.http.gate import Gate
from paynow.http.keyring import Keyring
from paynow.http.recent_events import RecentEvents
from paynow.observability.metrics import Metrics
from paynow.payments.decide import Decide
from paynow.payments.policy_proposals import ProposePolicy
from paynow.payments.reservations import Reservations
from paynow.store import Store


@dataclass(slots=True)
class Services:
    """`stopping` turns true before the server stops taking requests: readiness goes red first. `limit_state` is `ok`, or what is done without the
    rate limiter's store."""

    decide: Decide
    reservations: Reservations
    case_work: CaseWork
    store: Store
    keyring: Keyring
    metrics: Metrics
    recent_events: RecentEvents | None
    gate: Gate
    explanations: Explanations
    propose_policy: ProposePolicy
    limit_state: Callable[[], str] = lambda: "ok"
    stopping: bool = False


SERVICES: web.AppKey[Services] = web.AppKey("services", Services)
