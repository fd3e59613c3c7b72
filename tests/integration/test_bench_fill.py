"""The past that `bench fill` writes is one that PayNow could have had: the audit is clean, and the service goes on from it."""

from __future__ import annotations

from bench.fill import Size, copy_past
from bench.servers.policy import raised
from database import execute
from paynow.resources import folder
from paynow.store.audit import audit
from service import body, running

SIZE = Size(payments=3_000, customers=40, favourite=300)
POLICY = raised((folder("config") / "policy.toml").read_text(encoding="utf-8"))


def test_a_filled_database_is_clean_and_holds_what_was_asked(database: str) -> None:
    done: list[int] = []
    filled = copy_past(database, SIZE, POLICY, done=done.append)
    assert [finding for finding in audit(database)[1] if finding.offenders] == []
    assert sum(done) == 3_000
    assert execute(database, "select count(*), count(distinct payment_id), count(distinct customer_id) from payments") == [(3_000, 3_000, 40)]
    assert execute(database, "select count(*) from payments where customer_id = 'c_0'") == [(300,)]
    assert execute(database, "select count(*) from payments where payment_id > %s::uuid", filled.last_id) == [(0,)]


async def test_paynow_goes_on_from_the_past(database: str, tmp_path) -> None:
    copy_past(database, SIZE, POLICY)
    (tmp_path / "policy.toml").write_text(POLICY)
    payment_id, payee, amount = execute(
        database,
        """select p.payment_id::text, p.payee_id, p.amount_minor
        from payments p join idempotency_keys using (customer_id, payment_id) where key = 'fill-0'""",
    )[0]
    with running(database, tmp_path, {"PAYNOW_POLICY__FILE": str(tmp_path / "policy.toml")}) as service:
        async with service.client() as client:
            fresh = await client.post("/api/payments/decide", json=body("c_0", "20.00", "fresh"))
            assert (fresh.status, (await fresh.json())["decision"]) == (200, "allow")
            again = await client.post("/api/payments/decide", json=body("c_0", f"{amount / 100:.2f}", "fill-0", payeeId=payee))
            assert again.headers["Idempotent-Replayed"] == "true"
            assert (await again.json())["paymentId"] == payment_id
    assert [finding for finding in audit(database)[1] if finding.offenders] == []
