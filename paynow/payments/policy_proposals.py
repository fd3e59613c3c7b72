"""The second pair of eyes: an API key proposes a policy, another one approves it, and it is the active policy; or any refuses it."""

from __future__ import annotations

import asyncio

from loguru import logger

from paynow.errors import ConfigurationRefused, FieldFault, InternalFault, InvalidRequest, NotFound, OwnProposal, ProposalClosed
from paynow.payments.policy_versions import Compile
from paynow.policy import Policy
from paynow.store.policy_proposals import PolicyProposals
from paynow.store.records import PolicyProposal
from paynow.turns import Turns

WAITING_MAX = 32
WAIT_MAX_S = 10.0
UNFIT = "is no policy for the tools of this service, or one of its examples does not hold: paynow policy check tells each fault with its line"


class ProposePolicy:
    """`actor` is the id of the acting key. All raise the store's refusals and `Overloaded`; repeating what the same key did is harmless."""

    def __init__(self, proposals: PolicyProposals, compile_text: Compile) -> None:
        self._proposals = proposals
        self._compile = compile_text
        self._turns = Turns(at_once_max=1, waiting_max=WAITING_MAX, wait_max_s=WAIT_MAX_S)

    async def propose(self, text: str, actor: str) -> PolicyProposal:
        """Keeps a policy that is to replace the active one. Raises `InvalidRequest` if it is wrong, `ProposalClosed` if it is the active one."""
        policy = await self._fitted(text)
        if policy is None:
            raise InvalidRequest("The policy is not valid", errors=[FieldFault("policy", "format", UNFIT)])
        came = await self._proposals.propose(policy.version, policy.text, actor)
        if came == "active":
            raise ProposalClosed("The policy is the active one already")
        return await self._told(policy.version, actor, "proposed", now=came == "proposed")

    async def approve(self, version: str, actor: str) -> PolicyProposal:
        """The proposed policy is the active one from now on.

        Raises `NotFound`; `OwnProposal` if the key has proposed it itself; `ProposalClosed` if it is not open any more, or does not fit the tools.
        """
        proposal = await self._proposals.find(version)
        if proposal is None:
            raise NotFound("There is no such proposal")
        if proposal.status == "open" and await self._fitted(str(proposal.body)) is None:
            raise ProposalClosed("The policy does not fit the tools of this service any more")
        return await self._judge(version, "approved", actor)

    async def refuse(self, version: str, actor: str) -> PolicyProposal:
        """The proposed policy does not become the active one; whoever proposed it may take it back so. Raises `NotFound`, `ProposalClosed`."""
        return await self._judge(version, "refused", actor)

    async def _judge(self, version: str, verdict: str, actor: str) -> PolicyProposal:
        came = await self._proposals.judge(version, verdict, actor)
        if came == "unknown":
            raise NotFound("There is no such proposal")
        if came == "own":
            raise OwnProposal()
        if came == "overtaken":
            raise ProposalClosed("Another policy was made the active one since it was proposed: propose it again")
        proposal = await self._told(version, actor, verdict, now=came == "done")
        if came == "closed":
            raise ProposalClosed(f"The proposal was {proposal.status} by the key {proposal.judged_by}")
        return proposal

    async def _fitted(self, text: str) -> Policy | None:
        """The policy, its examples run, or None if it is refused."""
        async with self._turns.take():
            try:
                return await asyncio.to_thread(self._compile, text, "the proposed policy")
            except ConfigurationRefused:
                return None

    async def _told(self, version: str, actor: str, action: str, *, now: bool) -> PolicyProposal:
        if now:
            logger.bind(policy_version=version, key_id=actor, action=action).info("policy proposal worked on")
        proposal = await self._proposals.find(version)
        if proposal is None:
            raise InternalFault("The proposal is not stored")
        return proposal
