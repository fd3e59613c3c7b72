"""The routes of policies that are proposed."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from paynow.clock import rfc3339
from paynow.errors import NotFound
from paynow.http import paging
from paynow.http.answers import json_answer
from paynow.http.forms import Form
from paynow.http.middlewares import CALLER_ID
from paynow.http.policy_schemas import ProposeSchema
from paynow.http.services import SERVICES
from paynow.store.records import PolicyProposal

_PROPOSE = Form(ProposeSchema())
_VERSION = re.compile(r"[0-9a-f]{32}")


async def proposals_page(request: web.Request) -> web.Response:
    """`GET /api/policies/proposals`."""
    query = paging.read(request, filters={})
    before = paging.integer_cursor(query.cursor)
    found = await request.app[SERVICES].store.policy_proposals.page(before=before, limit=query.limit + 1)
    return json_answer(paging.page(found, query.limit, _proposal_json, lambda proposal: proposal.position))


async def propose_policy(request: web.Request) -> web.Response:
    """`POST /api/policies/proposals`."""
    values = await _PROPOSE.read(request)
    return json_answer(_proposal_json(await request.app[SERVICES].propose_policy.propose(values["policy"], request[CALLER_ID])))


async def proposal(request: web.Request) -> web.Response:
    """`GET /api/policies/proposals/{version}`."""
    found = await request.app[SERVICES].store.policy_proposals.find(_version(request))
    if found is None:
        raise NotFound("There is no such proposal")
    return json_answer({**_proposal_json(found), "policy": found.body})


async def approve_proposal(request: web.Request) -> web.Response:
    """`POST /api/policies/proposals/{version}/approve`."""
    return json_answer(_proposal_json(await request.app[SERVICES].propose_policy.approve(_version(request), request[CALLER_ID])))


async def refuse_proposal(request: web.Request) -> web.Response:
    """`POST /api/policies/proposals/{version}/refuse`."""
    return json_answer(_proposal_json(await request.app[SERVICES].propose_policy.refuse(_version(request), request[CALLER_ID])))


def _version(request: web.Request) -> str:
    version = request.match_info["version"]
    if not _VERSION.fullmatch(version):
        raise NotFound("There is no such proposal")
    return version


def _proposal_json(found: PolicyProposal) -> dict[str, Any]:
    return {
        "version": found.version,
        "status": found.status,
        "proposedBy": found.author,
        "proposedAt": rfc3339(found.at),
        "judgedBy": found.judged_by,
        "judgedAt": rfc3339(found.judged_at) if found.judged_at else None,
    }
