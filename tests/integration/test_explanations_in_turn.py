"""Explanations on the thread that they have: one at a time, few waiting, and payments never behind them."""

from __future__ import annotations

import asyncio
import threading
from uuid import uuid4

import pytest

from database import execute
from paynow.errors import Overloaded
from paynow.explain import service
from paynow.explain.service import Explanations
from paynow.store import Store

PAYMENT = """insert into payments (customer_id, payment_id, payee_id, amount_minor, currency, decision, degraded, policy_version, decided_at, answer)
values ('c_1', %s::uuid, 'p_1', 100, 'USD', 'block', false, 'none', now(), '{}')"""


async def test_who_asks_for_an_explanation_when_many_wait_is_told_so_and_who_leaves_makes_no_room_on_the_thread(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WAITING_MAX", 2)
    execute(database, "insert into customers (customer_id) values ('c_1')")
    payment_id = uuid4()
    execute(database, PAYMENT, str(payment_id))
    store = Store(database)
    explanations = Explanations(store, {})
    begun: list[threading.Event] = []
    entered, leave = threading.Semaphore(0), threading.Event()

    def explain(stored: object) -> dict[str, object]:
        begun.append(threading.Event())
        entered.release()
        assert leave.wait(30)
        return {"number": len(begun)}

    monkeypatch.setattr(explanations, "_explained", explain)
    try:
        first, second, third = (asyncio.create_task(explanations.of(payment_id)) for _ in range(3))
        await asyncio.to_thread(entered.acquire, timeout=30)
        with pytest.raises(Overloaded):
            await explanations.of(payment_id)
        first.cancel()
        await asyncio.wait([first])
        assert len(begun) == 1, "the thread is still busy with what nobody waits for any more"
        leave.set()
        assert await second == {"number": 2}
        assert await third == {"number": 3}
    finally:
        leave.set()
        await explanations.close()
        await store.close()
