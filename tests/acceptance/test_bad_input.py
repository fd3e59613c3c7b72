"""Bad input gets a clear problem that names the field, changes nothing, and appears nowhere: every body of the table, through the whole service."""

from __future__ import annotations

import json
import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDict

from bad_bodies import BAD_BODIES, CANARY, CANARY_DIGITS, VALID, BadBody
from canaries import heard
from database import contents, execute
from service import UNLIMITED, RunningService, open_account, running
from waiting import meanwhile

NEVER_TOLD = (CANARY, CANARY_DIGITS)
NEVER_LOGGED = (*NEVER_TOLD, VALID["amount"])  # which the problems' own examples hold


def sent(client: aiohttp.ClientSession, bad: BadBody) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    return client.post("/api/payments/decide", data=bad.raw, headers=CIMultiDict(bad.headers), skip_auto_headers=["Content-Type"])


async def refused(service: RunningService, client: aiohttp.ClientSession, bad: BadBody) -> tuple[str, str]:
    """Sends it. The problem, and the log's lines until the one that ends the request."""
    began = len(service.log)
    async with sent(client, bad) as response:
        text = await response.text()
        assert response.status == bad.status, text
        assert response.content_type == "application/problem+json"
        request_id = response.headers["X-Request-Id"]
        assert heard(NEVER_TOLD, text + str(response.headers)) == []

    def logged() -> list[str]:
        lines = service.log[began:]
        return lines if any(request_id in line and "request answered" in line for line in lines) else []

    return text, "\n".join(await meanwhile(logged))


@pytest.fixture(scope="module")
def module_environ() -> dict[str, str]:
    return {"PAYNOW_LOGGING__LEVEL": "TRACE"}


@pytest.fixture(scope="module")
def watched_service(module_service: RunningService) -> RunningService:
    """A service that writes every line it knows, with an account that a body that slipped through would find."""
    open_account(module_service.dsn, str(VALID["customerId"]), 1_000_000)
    return module_service


@pytest.mark.parametrize("bad", BAD_BODIES, ids=lambda bad: bad.name)
async def test_a_bad_body_is_refused_by_its_field_and_leaves_no_trace(watched_service: RunningService, bad: BadBody) -> None:
    before = contents(watched_service.dsn)
    async with watched_service.client() as client:
        text, logged = await refused(watched_service, client, bad)
    problem = json.loads(text)
    assert problem["retryable"] is False
    if bad.field is not None:
        assert bad.field in [fault["field"] for fault in problem["errors"]]
        assert all(fault["message"] and fault["code"] for fault in problem["errors"])
    assert heard(NEVER_LOGGED, logged) == []
    assert contents(watched_service.dsn) == before


async def test_all_of_them_are_counted_and_none_is_in_the_metrics_or_the_log(watched_service: RunningService) -> None:
    async with watched_service.client() as client:
        counted = await refusals(client)
        for bad in BAD_BODIES:
            await refused(watched_service, client, bad)
        assert await refusals(client) - counted == len(BAD_BODIES)
        for path in ("/metrics", "/api/metrics"):
            async with client.get(path) as response:
                assert heard(NEVER_TOLD, await response.text()) == []
    assert heard(NEVER_LOGGED, "\n".join(watched_service.log)) == []
    assert execute(watched_service.dsn, "select count(*) from idempotency_keys")[0][0] == 0


async def refusals(client: aiohttp.ClientSession) -> int:
    """How many decide requests ended in 400, 413 and 415, as `/metrics` counts them."""
    async with client.get("/metrics") as response:
        counted = re.findall(r"^paynow_requests_total\{(.+?)\} (\S+)$", await response.text(), re.MULTILINE)
    decide = [(labels, number) for labels, number in counted if 'route="/api/payments/decide"' in labels]
    return sum(int(float(number)) for labels, number in decide if re.search(r'status="4(00|13|15)"', labels))


@pytest.mark.parametrize(("level", "form"), [("DEBUG", "console"), ("INFO", "json"), ("WARNING", "console"), ("CRITICAL", "json")])
async def test_no_level_and_no_form_of_the_log_tells_of_them(database: str, tmp_path: Path, level: str, form: str) -> None:
    environ = {**UNLIMITED, "PAYNOW_LOGGING__LEVEL": level, "PAYNOW_LOGGING__FORMAT": form}
    with running(database, tmp_path, environ, quiet=True) as service:
        async with service.client() as client:
            for bad in BAD_BODIES:
                async with sent(client, bad) as response:
                    assert response.status == bad.status
                    await response.read()
    assert heard(NEVER_LOGGED, "\n".join(service.log)) == []
