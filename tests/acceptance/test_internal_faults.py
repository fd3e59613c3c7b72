"""A fault of our own is a 500 that tells nothing: no text of an exception, no SQL, no table, no value. The log has its kind."""

from __future__ import annotations

import json

import aiohttp
import pytest

from canaries import heard
from database import execute
from service import RunningService, balance, body, open_account
from waiting import meanwhile

CUSTOMER, PAYEE, KEY, AMOUNT = "c_canary4539578763621486", "p_canary7f3a", "k-canary91cc", "773188.31"
CANARIES = (CUSTOMER, PAYEE, KEY, AMOUNT, "77318831", "4539578763621486", "canary")
DOCUMENT = body(CUSTOMER, AMOUNT, KEY, payeeId=PAYEE)
TALKS = """
begin
    raise exception 'payment of % to % under %: %', p_customer, p_payee, p_key, p_amount using errcode = 'unique_violation',
        detail = format('Key (customer_id, key)=(%s, %s) already exists.', p_customer[1], p_key[1]), hint = p_payee[1],
        table = 'payments_' || p_customer[1], column = p_key[1], constraint = 'one_' || p_payee[1];
end
"""
LIMITER = """
from paynow.plugin_api import RateLimiterMaker, hookimpl

class Talkative:
    def __init__(self, told):
        self.told = told

    def __getattr__(self, name):
        raise RuntimeError(self.told)

class Limiter:
    name, shared, inside_claim = "odd", True, False

    async def take(self, kind, subject, limit):
        return Talkative(f"no {subject} in limits for {kind}")

@hookimpl
def paynow_register_rate_limiters(settings):
    return [RateLimiterMaker("odd", lambda take: Limiter(), shared=True)]
"""
LIMITED = """
[plugins]
dirs = ["plugins"]
enabled = ["get_balance", "get_risk_signals", "create_case", "odd"]
[rate_limit]
backend = "odd"
"""


NEWEST = """select pg_get_function_arguments(oid), pg_get_function_result(oid), oid::regprocedure::text from pg_proc where proname = %s
order by pronargs desc limit 1"""
"""The function that is called today: a shorter one under its name is for processes of before."""


@pytest.fixture(scope="module")
def module_environ() -> dict[str, str]:
    return {"PAYNOW_LOGGING__LEVEL": "TRACE"}


def break_function(dsn: str, name: str, kind: str) -> None:
    """Takes a function away, or puts one in its place that fails and tells all it was called with."""
    arguments, result, called = execute(dsn, NEWEST, name)[0]
    execute(dsn, f"alter function {called} rename to {name}_kept")
    if kind == "raises":
        execute(dsn, f"create function {name}({arguments}) returns {result} language plpgsql as $talks${TALKS}$talks$")


def mend_function(dsn: str, name: str, kind: str) -> None:
    if kind == "raises":
        execute(dsn, f"drop function {execute(dsn, NEWEST, name)[0][2]}")
    execute(dsn, f"alter function {name}_kept rename to {name}")


async def assert_tells_nothing(service: RunningService, response: aiohttp.ClientResponse, *kinds: str) -> None:
    """The answer is the whole of what may be said, and the log has the kinds of the exceptions, each the cause of the one before."""
    request_id = response.headers["X-Request-Id"]
    assert json.loads(await response.read()) == {
        "type": "/docs/errors/internal",
        "title": "An internal fault",
        "status": 500,
        "detail": "An internal fault",
        "code": "internal",
        "retryable": True,
        "requestId": request_id,
    }
    assert response.status == 500
    assert response.reason == "Internal Server Error"
    assert {name.title() for name in response.headers} == {"Content-Type", "Content-Length", "Date", "Server", "X-Request-Id", "Retry-After"}
    assert heard(CANARIES, str(response.headers)) == []
    failures = await meanwhile(lambda: [line for line in service.lines("a request failed") if line.get("request_id") == request_id])
    (failure,) = failures
    assert failure["level"] == "ERROR"
    raised = failure["exception"]
    for kind in kinds:
        assert raised["type"] == kind
        assert raised["frames"]
        raised = raised.get("cause", {})
    assert_log_tells_nothing(service)


def assert_log_tells_nothing(service: RunningService) -> None:
    log = "\n".join(service.log)
    assert heard(CANARIES, log) == []
    assert not [word for word in ("claim_payments", "settle_payments", "relation", "does not exist", "already exists", "select ") if word in log]


@pytest.mark.parametrize("name", ["claim_payments", "settle_payments"])
@pytest.mark.parametrize(("kind", "raised"), [("gone", "UndefinedFunction"), ("raises", "UniqueViolation")])
async def test_a_statement_that_postgresql_refuses_is_a_500_that_tells_nothing_and_changes_nothing(
    service: RunningService, name: str, kind: str, raised: str
) -> None:
    open_account(service.dsn, CUSTOMER, 100_000_000)
    break_function(service.dsn, name, kind)
    async with service.client() as client:
        async with client.post("/api/payments/decide", json=DOCUMENT) as response:
            await assert_tells_nothing(service, response, "paynow.errors.InternalFault", f"psycopg2.errors.{raised}")
        assert execute(service.dsn, "select count(*) from payments")[0][0] == 0
        assert balance(service.dsn, CUSTOMER) == (100_000_000, 0)
        mend_function(service.dsn, name, kind)
        async with client.post("/api/payments/decide", json=DOCUMENT) as response:
            assert (response.status, "Idempotent-Replayed" in response.headers) == (200, False)
    assert balance(service.dsn, CUSTOMER) == (100_000_000 - 77_318_831, 77_318_831)
    assert_log_tells_nothing(service)


@pytest.mark.parametrize("path", [f"/api/payments?customerId={CUSTOMER}", "/api/payments/01920000-0000-7000-8000-000000000000"])
async def test_a_table_that_is_gone_is_not_named(service: RunningService, path: str) -> None:
    execute(service.dsn, "alter table payments rename to gone")
    async with service.client() as client, client.get(path) as response:
        await assert_tells_nothing(service, response, "paynow.errors.InternalFault", "psycopg2.errors.UndefinedTable")


async def test_a_plugin_that_raises_where_nobody_foresaw_it_is_a_500_that_tells_nothing(plugin_service) -> None:
    service = plugin_service({"odd": LIMITER}, LIMITED, {"PAYNOW_RATE_LIMIT__CUSTOMER": "5/s"})
    open_account(service.dsn, CUSTOMER, 100_000_000)
    async with service.client() as client, client.post("/api/payments/decide", json=DOCUMENT) as response:
        await assert_tells_nothing(service, response, "RuntimeError")
    assert execute(service.dsn, "select count(*) from payments")[0][0] == 0
    assert balance(service.dsn, CUSTOMER) == (100_000_000, 0)
