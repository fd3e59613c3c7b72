"""What several handlers share: JSON out, and ids in paths."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from aiohttp import web
from multidict import CIMultiDict

from paynow.errors import NotFound

JSON = CIMultiDict({"Content-Type": "application/json"})


def json_answer(document: Any, *, status: int = 200) -> web.Response:
    """An answer in JSON."""
    return web.Response(body=orjson.dumps(document), status=status, headers=JSON)


def path_id(request: web.Request, name: str, what: str) -> UUID:
    """The UUID in the path. Raises `NotFound` if it is none: there is no such `what`."""
    try:
        return UUID(request.match_info[name])
    except ValueError:
        raise NotFound(f"There is no such {what}") from None
