"""Which policy a payment is decided under: the active one for new payments, the recorded one for claims that are taken over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from loguru import logger

from paynow.errors import ConfigurationRefused, InternalFault
from paynow.policy import Policy
from paynow.store.administration import Administration

VERSIONS_KEPT_MAX = 16


class PolicyVersions:
    """Compiled policies by version: the active one, set once `start` has run, and the last earlier ones that were asked for."""

    def __init__(self, administration: Administration, compile_text: Callable[[str, str], Policy]) -> None:
        self._administration = administration
        self._compile = compile_text
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
            policy = self._compile(stored.body, f"the earlier policy {version}")
        except ConfigurationRefused:
            logger.bind(policy_version=version).error("an earlier policy does not fit the tools any more; the active one decides its claims")
            return self.active
        if len(self._earlier) >= VERSIONS_KEPT_MAX:
            self._earlier.pop(next(iter(self._earlier)))
        self._earlier[version] = policy
        return policy
