"""The pages that the service serves about itself: the OpenAPI document and the page that renders it, events, and a page for every error code.

They need no key, ask nothing of any other server, and run no script that is not ours or Swagger UI's. They know nothing of payments.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.util import find_spec
from inspect import getdoc
from pathlib import Path
from string import Template

from aiohttp import web

from paynow.errors import NotFound, Refusal, refusals
from paynow.events import asyncapi as channels
from paynow.events import schemas as event_schemas
from paynow.http import examples
from paynow.http import openapi as description

PAGES = Path(__file__).parent / "pages"
OWN_FILES = {"docs.css": "text/css", "docs.js": "text/javascript", "error.css": "text/css", "icon.svg": "image/svg+xml"}
SWAGGER_FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}

# Swagger UI draws some of its icons from data: addresses in its style sheet. It needs no inline style or script, and no eval.
DOCS_POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
ERROR_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class File:
    """What is sent, with a tag that changes when the bytes do."""

    body: bytes
    media_type: str
    tag: str
    policy: str


async def openapi(request: web.Request) -> web.Response:
    """`GET /api/openapi.json`."""
    return await _answer(request, _document)


async def events_schema(request: web.Request) -> web.Response:
    """`GET /api/events/schema.json`."""
    return await _answer(request, _events_schema)


async def asyncapi(request: web.Request) -> web.Response:
    """`GET /api/asyncapi.json`."""
    return await _answer(request, _asyncapi)


async def docs(request: web.Request) -> web.Response:
    """`GET /docs`."""
    return await _answer(request, _docs_page)


async def docs_asset(request: web.Request) -> web.Response:
    """`GET /docs/assets/{name}`: one of a closed list of files."""
    name = request.match_info["name"]
    if name not in OWN_FILES and name not in SWAGGER_FILES:
        raise NotFound("There is no such file")
    return await _answer(request, lambda: _asset(name))


async def error_page(request: web.Request) -> web.Response:
    """`GET /docs/errors/{code}`."""
    code = request.match_info["code"]
    if code not in _by_code():
        raise NotFound("There is no such error code")
    return await _answer(request, lambda: _error_page(code))


async def _answer(request: web.Request, make: Callable[[], File]) -> web.Response:
    """The file, or 304 if the caller has it. Made in a thread, since the first time reads and hashes what is large."""
    file = await asyncio.to_thread(make)
    headers = {
        "Content-Type": f"{file.media_type}; charset=utf-8",
        "Cache-Control": "no-cache",
        "Content-Security-Policy": file.policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    known = request.if_none_match or ()
    if any(tag.value in (file.tag, "*") for tag in known):
        del headers["Content-Type"]
        response = web.Response(status=304, headers=headers)
    else:
        response = web.Response(body=file.body, headers=headers)
    response.etag = file.tag
    return response


def _file(body: bytes, media_type: str, policy: str) -> File:
    return File(body, media_type, hashlib.sha256(body).hexdigest()[:32], policy)


@cache
def _document() -> File:
    return _file(description.as_bytes(), "application/json", ERROR_POLICY)


@cache
def _events_schema() -> File:
    return _file(event_schemas.as_bytes(), "application/json", ERROR_POLICY)


@cache
def _asyncapi() -> File:
    return _file(channels.as_bytes(), "application/json", ERROR_POLICY)


@cache
def _docs_page() -> File:
    return _file((PAGES / "docs.html").read_bytes(), "text/html", DOCS_POLICY)


@cache
def _asset(name: str) -> File:
    if name in OWN_FILES:
        return _file((PAGES / name).read_bytes(), OWN_FILES[name], ERROR_POLICY)
    return _file((swagger_folder() / name).read_bytes(), SWAGGER_FILES[name], ERROR_POLICY)


def swagger_folder() -> Path:
    """Where the installed Swagger UI lies. The package is found and not imported: all that it would do is patch web frameworks.

    Raises `FileNotFoundError` if it is not there: the installation is broken.
    """
    spec = find_spec("swagger_ui")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package swagger-ui-py is missing: PayNow is not installed whole")
    return Path(spec.submodule_search_locations[0]) / "static"


@cache
def _by_code() -> dict[str, type[Refusal]]:
    return {refusal.code: refusal for refusal in refusals()}


@cache
def _error_page(code: str) -> File:
    refusal = _by_code()[code]
    page = Template((PAGES / "error.html").read_text(encoding="utf-8")).substitute(
        code=escape(code),
        status=refusal.status,
        title=escape(refusal.title),
        meaning=f"<p>{_prose(getdoc(refusal) or '')}</p>",
        retry=_prose(_retry(refusal)),
        example=escape(json.dumps(examples.problem_of(refusal), indent=2, ensure_ascii=False)),
        others="\n".join(_link(other, current=other is refusal) for other in refusals()),
    )
    return _file(page.encode(), "text/html", ERROR_POLICY)


def _retry(refusal: type[Refusal]) -> str:
    if refusal.retryable:
        return "Yes: send the same request again, with the same idempotency key, after as many seconds as the header `Retry-After` says."
    return "No: the same request would be refused again. Something about it, or about what it names, has to change first."


def _link(refusal: type[Refusal], *, current: bool) -> str:
    here = ' aria-current="page"' if current else ""
    return f'<li><span>{refusal.status}</span> <a href="/docs/errors/{escape(refusal.code)}"{here}>{escape(refusal.code)}</a></li>'


def _prose(text: str) -> str:
    """Text as HTML, with `code` between backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
