"""`paynow payments replay` through a real service, and through a scripted one that is in trouble."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from inspect import isawaitable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from commands import Ended, paynow
from paynow.cli.sending import CONNECTION_TRIES_MAX, RETRY_FOR_S, Sender, percentile
from paynow.clock import Clock
from paynow.payments.payment_file import PaymentLine
from service import API_KEY, RunningService, balance, open_account

HEADER = "customer_id,payee_id,amount,currency"


def replay(service: RunningService, folder: Path, text: str, *arguments: str, api_key: str = API_KEY) -> Ended:
    (folder / "payments.csv").write_text(text)
    return paynow(folder, service.dsn, "payments", "replay", "payments.csv", "--url", service.url, *arguments, API_KEY=api_key)


def rows(count: int, customer: str, amount: str = "1.00") -> str:
    return f"{HEADER}\n" + "".join(f"{customer},p_1,{amount},USD\n" for _ in range(count))


def test_a_file_is_decided_once_however_often_it_is_sent(module_service: RunningService, tmp_path: Path) -> None:
    open_account(module_service.dsn, "c_file", 3_000)
    first = replay(module_service, tmp_path, rows(50, "c_file"), "--json").json()
    assert first["decisions"] == {"allow": 30, "review": 0, "block": 20}
    assert (first["payments"], first["replayed"], first["errors"], first["notSent"]) == (50, 0, {}, 0)
    assert first["perSecond"] > 0
    assert 0 < first["latencyMs"]["p50"] <= first["latencyMs"]["p95"] <= first["latencyMs"]["p99"]
    again = replay(module_service, tmp_path, rows(50, "c_file"), "--json").json()
    assert (again["decisions"], again["replayed"]) == (first["decisions"], 50)
    assert balance(module_service.dsn, "c_file") == (0, 3_000)


def test_the_summary_for_eyes_stands_on_standard_output_and_no_bar_in_a_pipe(module_service: RunningService, tmp_path: Path) -> None:
    open_account(module_service.dsn, "c_eyes", 10_000)
    ended = replay(module_service, tmp_path, rows(5, "c_eyes"), "--limit", "3", "--concurrency", "2")
    assert (ended.code, ended.err) == (0, "")
    assert [line.split()[0] for line in ended.out.splitlines()] == ["payments", "decisions", "replayed", "retries", "errors", "latency", "throughput"]
    assert "allow 3, review 0, block 0" in ended.out


def test_a_bad_file_is_exit_code_2_with_its_lines_and_sends_nothing(module_service: RunningService, tmp_path: Path) -> None:
    open_account(module_service.dsn, "c_bad", 10_000)
    ended = replay(module_service, tmp_path, rows(1, "c_bad") + "c_bad,p_1,1.001,USD\n")
    assert ended.code == 2
    assert "payments.csv:3: amount must have at most 2 decimals in USD" in ended.err
    assert balance(module_service.dsn, "c_bad") == (10_000, 0)


def test_an_error_is_counted_by_its_code_with_its_line_and_the_exit_code_is_1(module_service: RunningService, tmp_path: Path) -> None:
    open_account(module_service.dsn, "c_mixed", 10_000)
    text = f"{HEADER},idempotency_key\nc_mixed,p_1,1.00,USD,same\nc_mixed,p_1,2.00,USD,same\nc_mixed,p_1,3.00,USD,other\n"
    ended = replay(module_service, tmp_path, text, "--concurrency", "1")
    assert ended.code == 1
    assert ended.err.splitlines() == ["payments.csv:3: idempotency_mismatch"]
    assert "idempotency_mismatch 1" in ended.out
    assert balance(module_service.dsn, "c_mixed") == (9_600, 400)


def test_a_key_that_is_refused_ends_the_run(module_service: RunningService, tmp_path: Path) -> None:
    ended = replay(module_service, tmp_path, rows(20, "c_refused"), "--concurrency", "1", api_key="wrong")
    assert ended.code == 1
    assert "20, of which 19 were not sent" in ended.out


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_is_exit_code_2(tmp_path: Path, url: str) -> None:
    (tmp_path / "payments.csv").write_text(rows(1, "c_1"))
    assert paynow(tmp_path, "postgresql:///unused", "payments", "replay", "payments.csv", "--url", url, API_KEY=API_KEY).code == 2


def test_without_a_key_nothing_is_sent(tmp_path: Path) -> None:
    (tmp_path / "payments.csv").write_text(rows(1, "c_1"))
    ended = paynow(tmp_path, "postgresql:///unused", "payments", "replay", "payments.csv")
    assert ended.code == 2
    assert "API_KEY" in ended.err


# ---- a scripted service, and a clock that does not wait


class Time:
    """A clock whose sleeps take no time; `slept` keeps them."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []
        self.clock = Clock(monotonic=lambda: self.now_s, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def lines(count: int) -> list[PaymentLine]:
    return [PaymentLine(number + 2, "c_1", "p_1", "1.00", "USD", f"k-{number}") for number in range(count)]


@asynccontextmanager
async def scripted(answer: Callable[[str, int], web.Response | Awaitable[web.Response]]) -> AsyncIterator[tuple[str, Counter[str]]]:
    """A service that answers by the payment's key and how often it was asked for it; the address, and the count of each key."""
    asked: Counter[str] = Counter()

    async def handle(request: web.Request) -> web.StreamResponse:
        key = (await request.json())["idempotencyKey"]
        asked[key] += 1
        given = answer(key, asked[key])
        return await given if isawaitable(given) else given

    application = web.Application()
    application.router.add_post("/api/payments/decide", handle)
    async with TestServer(application) as server:
        yield str(server.make_url("/")), asked


def allowed() -> web.Response:
    return web.json_response({"decision": "allow"})


def trouble(status: int, code: str, retry_after: str | None) -> web.Response:
    return web.json_response({"code": code}, status=status, headers={"Retry-After": retry_after} if retry_after else {})


@pytest.mark.parametrize("status", [409, 429, 503])
@pytest.mark.parametrize(("retry_after", "waited_s"), [("3", 3.0), (None, 1.0), ("Tue, 24 Nov 2026 10:00:00 GMT", 1.0), ("5000", 30.0)])
async def test_what_helps_is_tried_again_after_the_time_that_the_service_names(status: int, retry_after: str | None, waited_s: float) -> None:
    time = Time()
    async with scripted(lambda key, times: allowed() if times > 1 else trouble(status, "busy", retry_after)) as (url, asked):
        tally = await Sender(url, "key", concurrency=1, clock=time.clock)(lines(1))
    assert (tally.decisions["allow"], tally.retries, time.slept, asked.total()) == (1, 1, [waited_s], 2)


async def test_trying_again_is_bounded_in_time() -> None:
    time = Time()
    async with scripted(lambda key, times: trouble(429, "rate_limited", "7")) as (url, _):
        tally = await Sender(url, "key", concurrency=1, clock=time.clock)(lines(2))
    assert tally.errors == {"rate_limited": 2}
    assert tally.failures == [(2, "rate_limited"), (3, "rate_limited")]
    assert RETRY_FOR_S - 7 < sum(time.slept) / 2 <= RETRY_FOR_S


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_what_does_not_help_is_not_tried_again(status: int) -> None:
    async with scripted(lambda key, times: trouble(status, "no", "1")) as (url, asked):
        tally = await Sender(url, "key", concurrency=4, clock=Time().clock)(lines(5))
    assert (tally.errors, set(asked.values())) == ({"no": 5}, {1})


async def test_answers_that_are_none_are_errors_with_a_code() -> None:
    answers = [
        web.Response(text="<html>"),
        web.json_response([1]),
        web.Response(status=502, text="bad gateway"),
        web.Response(status=307, headers={"Location": "/elsewhere"}),
    ]
    async with scripted(lambda key, times: answers[int(key.split("-")[1])]) as (url, _):
        tally = await Sender(url, "key", concurrency=1, clock=Time().clock)(lines(4))
    assert tally.errors == {"unreadable_answer": 2, "http_502": 1, "http_307": 1}


async def test_a_service_that_is_gone_ends_the_run() -> None:
    async with scripted(lambda key, times: allowed()) as (url, _):
        pass
    time = Time()
    tally = await Sender(url, "key", concurrency=1, clock=time.clock)(lines(1_000))
    assert (tally.errors, tally.sent, len(time.slept)) == ({"no_answer": 1}, 1, CONNECTION_TRIES_MAX - 1)


async def test_as_many_are_under_way_as_was_said_and_each_is_sent_once() -> None:
    """Nobody is answered before eight are there; a ninth would be seen."""
    eight, inside, most, told = asyncio.Barrier(8), 0, 0, []

    async def meet(key: str, times: int) -> web.Response:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        async with asyncio.timeout(10):
            await eight.wait()
        inside -= 1
        return allowed()

    async with scripted(meet) as (url, asked):
        tally = await Sender(url, "key", concurrency=8, clock=Time().clock, sent=lambda: told.append(1))(lines(96))
    assert (tally.decisions["allow"], len(told), set(asked.values()), len(asked), most) == (96, 96, {1}, 96, 8)


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99)] == [50.0, 95.0, 99.0]
    assert percentile([7.0], 0.5) == 7.0
    assert percentile([], 0.99) == 0.0
