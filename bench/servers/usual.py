"""The same service written the usual way: FastAPI, pydantic, asyncpg, one transaction a payment. Small, and in no way held back.

It does less than PayNow: no limit of a customer, no lists, no lease and takeover (the key and the decision are one transaction), no retries of tools,
no redaction. `DATABASE_URL` and `API_KEY` come from the environment; `uvicorn bench.servers.usual:app` serves it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import asyncpg
import orjson
from fastapi import Depends, FastAPI, Header, HTTPException, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

CONNECTIONS = 20
ID = r"^[A-Za-z0-9_.:-]{1,64}$"
VELOCITY_1M, VELOCITY_1H, DAILY_MINOR = 1_000_000, 1_000_000, 10**15
"""Raised out of the way, as in PayNow's policy for the bench."""

KEY_INSERT = "insert into idempotency_keys (customer_id, key, fingerprint) values ($1, $2, $3) on conflict do nothing returning true"
KEY_READ = "select fingerprint, answer from idempotency_keys where customer_id = $1 and key = $2"
KEY_ANSWER = "update idempotency_keys set answer = $3 where customer_id = $1 and key = $2"
ACCOUNT_LOCK = "select available from accounts where customer_id = $1 and currency = $2 for update"
ACTIVITY = """
select count(*) filter (where created_at > now() - interval '1 minute') as attempts_1m,
    count(*) filter (where created_at > now() - interval '1 hour') as attempts_1h,
    coalesce(sum(amount_minor) filter (where decision = 'allow'), 0)::bigint as allowed_24h,
    count(*) filter (where decision = 'allow') as allowed_count
from payments where customer_id = $1 and currency = $2 and created_at > now() - interval '24 hours'
"""
PAYEE_KNOWN = "select exists (select from payments where customer_id = $1 and payee_id = $2 and decision = 'allow')"
RESERVE = "update accounts set available = available - $3, reserved = reserved + $3 where customer_id = $1 and currency = $2"
LEDGER = "insert into ledger_entries (customer_id, currency, payment_id, available_change, reserved_change) values ($1, $2, $3, -$4::bigint, $4)"
PAYMENT = """
insert into payments (id, customer_id, payee_id, amount_minor, currency, decision, reasons, trace) values ($1, $2, $3, $4, $5, $6, $7, $8)
"""
EVENT = "insert into outbox (type, payload) values ('payment.decided', $1)"
DELIVER = "delete from outbox where id in (select id from outbox order by id limit 1000) returning payload"


class Payment(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)

    customer_id: Annotated[str, Field(pattern=ID)]
    payee_id: Annotated[str, Field(pattern=ID)]
    amount: Annotated[Decimal, Field(gt=0, decimal_places=2, max_digits=16)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    idempotency_key: Annotated[str, Field(pattern=r"^[ -~]{1,255}$")]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        app.state.pool = pool
        relay = asyncio.create_task(deliver(pool))
        yield
        relay.cancel()
        with suppress(asyncio.CancelledError):
            await relay


app = FastAPI(lifespan=lifespan)
delivered: deque[str] = deque(maxlen=1000)


async def deliver(pool: asyncpg.Pool) -> None:
    """Takes events out of the outbox, as PayNow's relay does for its sink in memory."""
    while True:
        rows = await pool.fetch(DELIVER)
        delivered.extend(row["payload"] for row in rows)
        await asyncio.sleep(0.2 if len(rows) < 1000 else 0)


def authenticated(x_api_key: Annotated[str, Header()]) -> None:
    if not hmac.compare_digest(x_api_key.encode(), os.environ["API_KEY"].encode()):
        raise HTTPException(401, "no valid API key")


@app.post("/api/payments/decide", dependencies=[Depends(authenticated)])
async def decide(payment: Payment) -> Response:
    amount_minor = int(payment.amount * 100)
    facts = f"{payment.customer_id}\n{payment.payee_id}\n{amount_minor}\n{payment.currency}"
    fingerprint = hashlib.sha256(facts.encode()).digest()
    async with app.state.pool.acquire() as db, db.transaction():
        if not await db.fetchval(KEY_INSERT, payment.customer_id, payment.idempotency_key, fingerprint):
            known = await db.fetchrow(KEY_READ, payment.customer_id, payment.idempotency_key)
            if known["fingerprint"] != fingerprint:
                raise HTTPException(422, "the same key with another body")
            return Response(known["answer"], media_type="application/json", headers={"Idempotent-Replayed": "true"})
        return Response(await decide_new(db, payment, amount_minor), media_type="application/json")


async def decide_new(db: asyncpg.Connection, payment: Payment, amount_minor: int) -> bytes:
    """Reads, judges and writes one payment inside the caller's transaction; returns the answer."""
    began = time.perf_counter()
    customer, payee, currency = payment.customer_id, payment.payee_id, payment.currency
    payment_id = uuid.uuid4()
    available = await db.fetchval(ACCOUNT_LOCK, customer, currency) or 0
    balance_ms = (time.perf_counter() - began) * 1000
    activity = dict(await db.fetchrow(ACTIVITY, customer, currency))
    activity["payee_known"] = await db.fetchval(PAYEE_KNOWN, customer, payee)
    reasons = judge(amount_minor, available, activity)
    decision = "block" if "insufficient_funds" in reasons else "review" if reasons else "allow"
    if decision == "allow":
        await db.execute(RESERVE, customer, currency, amount_minor)
    trace = [
        {"step": "plan", "tools": ["getBalance", "getRiskSignals"]},
        {"step": "tool", "tool": "getBalance", "status": "ok", "durationMs": balance_ms, "output": {"available_minor": available}},
        {"step": "tool", "tool": "getRiskSignals", "status": "ok", "durationMs": (time.perf_counter() - began) * 1000, "output": activity},
        {"step": "decide", "decision": decision, "fired": reasons},
        {"step": "settle", "status": "settled", "decision": decision},
    ]
    answer: dict[str, Any] = {
        "paymentId": payment_id,
        "decision": decision,
        "reasons": reasons,
        "reservation": {"status": "held", "amount": f"{payment.amount:.2f}", "currency": currency} if decision == "allow" else None,
        "agentTrace": trace,
        "decidedAt": datetime.now(UTC),
    }
    body = orjson.dumps(answer)
    await db.execute(
        PAYMENT, payment_id, customer, payee, amount_minor, currency, decision, orjson.dumps(reasons).decode(), orjson.dumps(trace).decode()
    )
    if decision == "allow":
        await db.execute(LEDGER, customer, currency, payment_id, amount_minor)
    event = {"paymentId": payment_id, "customerId": customer, "payeeId": payee, "amountMinor": amount_minor, "decision": decision}
    await db.execute(EVENT, orjson.dumps(event).decode())
    await db.execute(KEY_ANSWER, customer, payment.idempotency_key, body)
    return body


def judge(amount_minor: int, available: int, activity: dict[str, Any]) -> list[str]:
    """The rules that fire."""
    rules = {
        "insufficient_funds": available < amount_minor,
        "velocity_1m": activity["attempts_1m"] >= VELOCITY_1M,
        "velocity_1h": activity["attempts_1h"] >= VELOCITY_1H,
        "new_payee_large_amount": not activity["payee_known"] and amount_minor >= 100_000,
        "unusual_amount": activity["allowed_count"] >= 5 and amount_minor > 5 * activity["allowed_24h"] / activity["allowed_count"],
        "daily_amount": activity["allowed_24h"] + amount_minor > DAILY_MINOR,
    }
    return [rule for rule, fires in rules.items() if fires]
