"""What HTTP itself allows or forbids, before any route looks at a request."""

from __future__ import annotations

import pytest

from service import RunningService, body

DECIDE = "/api/payments/decide"


async def test_an_expectation_that_is_not_known_is_passed_over_and_never_repeated(module_service: RunningService) -> None:
    async with module_service.client(Expect="canary-4111111111111111") as client, client.post(DECIDE, json=body(key="expecting")) as response:
        assert response.status == 200
        assert "X-Request-Id" in response.headers


@pytest.mark.parametrize("encoding", ["canary", "gzip, gzip"])
async def test_an_encoding_that_is_not_known_is_refused_and_not_read_as_plain(module_service: RunningService, encoding: str) -> None:
    async with (
        module_service.client() as client,
        client.post(DECIDE, json=body(), headers={"Content-Encoding": encoding}, compress=False) as response,
    ):
        assert (response.status, (await response.json(content_type=None))["code"]) == (415, "unsupported_media_type")


async def test_the_decide_route_is_no_payment_that_could_be_read(module_service: RunningService) -> None:
    async with module_service.client() as client:
        async with client.get(DECIDE) as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")
        async with client.get("/api/payments/decides") as response:
            assert (response.status, (await response.json(content_type=None))["detail"]) == (404, "There is no such payment")


async def test_a_body_that_is_held_back_is_asked_for(module_service: RunningService) -> None:
    async with module_service.client() as client, client.post(DECIDE, json=body(key="held-back"), expect100=True) as response:
        assert response.status == 200
