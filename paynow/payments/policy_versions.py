"""Which policy a payment is decided under: the active one for new payments, for all others the one that they were claimed under."""

from __future__ import annotations

import asyncio
from typing import Protocol

from loguru import logger

from paynow.clock import Clock
from paynow.errors import ConfigurationRefused, InternalFault, Refusal
from paynow.policy import Policy
from paynow.store.administration import Administration

VERSIONS_KEPT_MAX = 16
LOOK_EVERY_S = 1.0
"""How often is looked which policy is the active one, should a notice be missed or not be heard at all (a pooler in transaction mode)."""


class Compile(Protocol):
    """A policy against the tools of this process."""

    def __call__(self, text: str, origin: str, *, run_examples: bool = True) -> Policy:
        """Raises `ConfigurationRefused` with all faults."""


class Meters(Protocol):
    """What is counted of policies."""

    def policy_taken(self, taken: bool) -> None:
        """Another policy was made the active one; `taken` tells whether it fits this process's tools."""


class PolicyVersions:
    """Compiled policies by version: the active one, set once `start` has run, and the last earlier ones that were asked for."""

    def __init__(self, administration: Administration, compile_text: Compile, metrics: Meters, clock: Clock) -> None:
        self._administration = administration
        self._compile = compile_text
        self._metrics = metrics
        self._clock = clock
        self._refused: str | None = None
        self._earlier: dict[str, Policy] = {}
        self._loading: dict[str, asyncio.Task[Policy]] = {}
        self.active: Policy

    async def start(self, from_file: Policy) -> None:
        """The file seeds an empty database; from then on the database rules, and a file that differs is a warning.

        Raises `ConfigurationRefused` if the database's policy does not fit the tools any more.
        """
        await self._administration.seed_policy(from_file.version, from_file.text, "configuration file")
        stored = await self._administration.active_policy()
        if stored is None:
            raise InternalFault("No policy is active")
        if stored.version == from_file.version:
            self.active = from_file
        else:
            self.active = self._compile(stored.body, f"the active policy {stored.version}")
            logger.bind(policy_version=stored.version).warning(
                "the policy file differs from the active policy, which rules; run paynow policy activate to make the file the active one"
            )

    async def follow(self) -> None:
        """Takes whatever is made the active policy from now on, within a moment, for as long as it runs. Payments under way keep theirs."""
        while True:
            try:
                async with self._administration.hearing_of_policies() as notice:
                    while True:
                        await self.refresh()
                        await notice(LOOK_EVERY_S)
            except Refusal as refusal:
                logger.bind(error=refusal.code).debug("news of policies cannot be heard")
            except Exception as error:  # whatever it is: who does not follow decides by an old policy, and nobody sees it
                logger.bind(error=type(error).__name__).opt(exception=True).error("following the active policy failed")
            try:
                await self.refresh()
            except Refusal as refusal:
                logger.bind(error=refusal.code).debug("the active policy could not be looked up")
            except Exception as error:
                logger.bind(error=type(error).__name__).opt(exception=True).error("following the active policy failed")
            await self._clock.sleep(LOOK_EVERY_S)

    async def refresh(self) -> None:
        """Takes the database's active policy if it is another one. One that does not fit the tools is told once, and ours stays.

        Raises the store's refusals.
        """
        version = await self._administration.active_policy_version()
        if version == self.active.version:
            self._refused = None
        if version in (None, self.active.version, self._refused):
            return
        policy = self._earlier.get(version) or await self._taken(version)
        if policy is None:
            return
        self._refused = None
        self._keep(self.active)
        self.active = policy
        self._metrics.policy_taken(True)
        logger.bind(policy_version=version).info("another policy is the active one")

    async def _taken(self, version: str) -> Policy | None:
        stored = await self._administration.policy(version)
        if stored is None:
            raise InternalFault("The active policy is not stored")
        try:
            # In a thread: hundreds of rules take a while, and payments are under way.
            return await asyncio.to_thread(self._compile, stored.body, f"the active policy {version}")
        except ConfigurationRefused:
            self._refused = version
            self._metrics.policy_taken(False)
            logger.bind(policy_version=version).error("the active policy does not fit the tools of this service, which goes on with the one before")
            return None

    def _keep(self, policy: Policy) -> None:
        if len(self._earlier) >= VERSIONS_KEPT_MAX:
            self._earlier.pop(next(iter(self._earlier)))
        self._earlier[policy.version] = policy

    async def get(self, version: str) -> Policy:
        """The policy of that version; the active one if that version does not fit the tools any more, so that no claim is stranded.

        Raises `InternalFault` if it was never active, and the store's refusals.
        """
        if version == self.active.version:
            return self.active
        policy = self._earlier.get(version)
        if policy is not None:
            return policy
        loading = self._loading.get(version)
        if loading is None:
            loading = self._loading[version] = asyncio.create_task(self._load(version))
            loading.add_done_callback(lambda _: self._loading.pop(version, None))
        return await asyncio.shield(loading)

    async def _load(self, version: str) -> Policy:
        stored = await self._administration.policy(version)
        if stored is None:
            raise InternalFault("The policy of an earlier claim is not stored")
        try:
            # Its examples held when it was activated; what they say of today's tools strands none of its claims.
            policy = await asyncio.to_thread(self._compile, stored.body, f"the earlier policy {version}", run_examples=False)
        except ConfigurationRefused:
            logger.bind(policy_version=version).error("an earlier policy does not fit the tools any more; the active one decides its claims")
            return self.active
        self._keep(policy)
        return policy
