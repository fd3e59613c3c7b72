"""The pages that the service serves about itself: whole without any other server, strict about scripts, readable without any."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable
from html import unescape
from html.parser import HTMLParser
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from paynow import errors
from paynow.errors import Refusal
from paynow.events import asyncapi, schemas
from paynow.http import docs, examples, middlewares, openapi
from paynow.http.routing import ROUTES

Client = TestClient[Any, Any]
VOID = {"meta", "link", "img", "br"}
FILES = [*docs.OWN_FILES, *docs.SWAGGER_FILES]
REFUSALS = pytest.mark.parametrize("refusal", errors.refusals(), ids=lambda refusal: refusal.code)


class Page(HTMLParser):
    """The elements of a page, the text between them, and whether all that was opened was closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
            self.text.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            self.text[tag][-1] += data

    @property
    def addresses(self) -> set[str]:
        return {str(attributes[name]) for _, attributes in self.elements for name in ("href", "src") if name in attributes}


@pytest.fixture
async def pages(aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    """The pages on a server that has nothing else: they need no store, no key and no other service."""
    app = web.Application(middlewares=[middlewares.request_ids(), middlewares.problem_answers])
    for route in ROUTES:
        if handler := getattr(docs, route.name, None):
            app.router.add_get(route.path, handler, name=route.name)
    return await aiohttp_client(app)


async def get(pages: Client, path: str) -> tuple[str, Any]:
    async with pages.get(path) as response:
        return await response.text(), response


@pytest.mark.parametrize(
    ("path", "document"), [("/api/openapi.json", openapi), ("/api/events/schema.json", schemas), ("/api/asyncapi.json", asyncapi)]
)
async def test_the_documents_are_served_as_they_are(pages: Client, path: str, document: Any) -> None:
    text, response = await get(pages, path)
    assert response.content_type == "application/json"
    assert orjson.loads(text) == orjson.loads(document.as_bytes())


@pytest.mark.parametrize(
    "path",
    [
        "/api/openapi.json",
        "/api/events/schema.json",
        "/api/asyncapi.json",
        "/docs",
        "/docs/errors/not_found",
        *(f"/docs/assets/{name}" for name in FILES),
    ],
)
async def test_everything_is_served_strictly_and_can_be_kept(pages: Client, path: str) -> None:
    _, first = await get(pages, path)
    assert first.status == 200
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    assert first.headers["Referrer-Policy"] == "no-referrer"
    assert first.headers["Cache-Control"] == "no-cache"
    policy = first.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert re.match(r"default-src '(self|none)'; ", policy)

    for known in (first.headers["ETag"], f'"another", W/{first.headers["ETag"]}', "*"):
        async with pages.get(path, headers={"If-None-Match": known}) as again:
            assert again.status == 304
            assert await again.read() == b""
            assert again.headers["ETag"] == first.headers["ETag"]
    async with pages.get(path, headers={"If-None-Match": '"another"'}) as other:
        assert other.status == 200


@pytest.mark.parametrize("name", FILES)
async def test_every_file_has_its_type(pages: Client, name: str) -> None:
    _, response = await get(pages, f"/docs/assets/{name}")
    assert response.content_type == {**docs.OWN_FILES, **docs.SWAGGER_FILES}[name]
    assert response.charset == "utf-8"


@pytest.mark.parametrize(
    "name",
    ["swagger-ui.js", "index.html", "docs.html", "error.html", "introduction.md", "DOCS.CSS", "..%2Fdocs.py", "%2e%2e%2f%2e%2e%2f__init__.py", "%00"],
)
async def test_no_other_file_is_served(pages: Client, name: str) -> None:
    text, response = await get(pages, f"/docs/assets/{name}")
    assert response.status == 404
    assert orjson.loads(text)["code"] == "not_found"


async def test_swagger_ui_is_found_and_not_imported(pages: Client) -> None:
    await get(pages, "/docs/assets/swagger-ui.css")
    assert "swagger_ui" not in sys.modules


async def test_the_page_loads_only_what_is_served_here(pages: Client) -> None:
    html, _ = await get(pages, "/docs")
    page = Page(html)
    assert {f"/docs/assets/{name}" for name in ("swagger-ui.css", "swagger-ui-bundle.js", "docs.css", "docs.js", "icon.svg")} <= page.addresses
    for address in page.addresses:
        _, response = await get(pages, address)
        assert response.status == 200, address


async def test_the_styles_and_the_script_name_no_other_server(pages: Client) -> None:
    for name in FILES:
        text, _ = await get(pages, f"/docs/assets/{name}")
        if name.endswith(".css"):
            assert all(address.startswith("data:") for address in re.findall(r"url\(['\"]?([^)'\"]+)", text))
            assert "@import" not in text
        if name in docs.OWN_FILES and name != "icon.svg":
            assert "://" not in text


async def test_the_page_asks_nobody_to_validate_and_takes_no_address_from_outside(pages: Client) -> None:
    script, _ = await get(pages, "/docs/assets/docs.js")
    assert "validatorUrl: null" in script
    assert "queryConfigEnabled: false" in script
    assert 'url: "/api/openapi.json"' in script


@pytest.mark.parametrize("path", ["/docs", *(f"/docs/errors/{refusal.code}" for refusal in errors.refusals())])
async def test_no_page_has_a_script_or_a_style_of_its_own(pages: Client, path: str) -> None:
    html, response = await get(pages, path)
    assert response.content_type == "text/html"
    for tag, attributes in Page(html).elements:
        assert tag != "style"
        assert tag != "script" or "src" in attributes
        assert not any(name == "style" or name.startswith("on") for name in attributes)


@REFUSALS
async def test_every_refusal_has_a_page_that_needs_no_script(pages: Client, refusal: type[Refusal]) -> None:
    html, response = await get(pages, f"/docs/errors/{refusal.code}")
    page = Page(html)
    assert response.status == 200
    assert "script" not in page.text
    assert ("html", {"lang": "en"}) in page.elements
    assert page.text["h1"] == [refusal.title]
    assert page.text["title"] == [f"{refusal.code} – PayNow"]
    assert page.text["span"][0] == str(refusal.status)
    assert any(" ".join((refusal.__doc__ or "").replace("`", "").split()) == " ".join(text.split()) for text in page.text["p"])
    assert any(text.startswith("Yes: " if refusal.retryable else "No: ") for text in page.text["p"])
    assert orjson.loads(page.text["pre"][0]) == examples.problem_of(refusal)


@REFUSALS
async def test_every_page_of_an_error_leads_to_all_others(pages: Client, refusal: type[Refusal]) -> None:
    html, _ = await get(pages, f"/docs/errors/{refusal.code}")
    page = Page(html)
    links = [attributes for tag, attributes in page.elements if tag == "a" and str(attributes.get("href")).startswith("/docs/errors/")]
    assert [link["href"] for link in links] == [f"/docs/errors/{other.code}" for other in errors.refusals()]
    assert [link["href"] for link in links if link.get("aria-current") == "page"] == [f"/docs/errors/{refusal.code}"]
    assert page.addresses <= {f"/docs/errors/{other.code}" for other in errors.refusals()} | {
        "/docs",
        "/docs/assets/icon.svg",
        "/docs/assets/error.css",
    }


@pytest.mark.parametrize("code", ["canary7f3a", "NOT_FOUND", "not_found.html", "%3Cscript%3E", "..%2F..%2Fdocs"])
async def test_a_code_that_is_none_has_no_page_and_is_not_repeated(pages: Client, code: str) -> None:
    text, response = await get(pages, f"/docs/errors/{code}")
    assert response.status == 404
    assert response.content_type == "application/problem+json"
    assert "canary7f3a" not in text
    assert "script" not in text


def test_text_is_escaped() -> None:
    assert docs._prose("a < b & `<i>`") == "a &lt; b &amp; <code>&lt;i&gt;</code>"
    assert unescape(docs._prose("plain")) == "plain"
