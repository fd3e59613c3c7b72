"""Which policy a payment is decided under: the active one for new payments, the recorded one for claims that are taken over."""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

from paynow.errors import ConfigurationRefused, InternalFault
from paynow.policy import Policy
from paynow.store.administration import Administration

VERSIONS_KEPT_MAX = 16


class PolicyVersions:
    """Compiled policies by version. `active` is set once `start` has run."""

    def __init__(self, administration: Administration, compile_text: Callable[[str, str], Policy]) -> None:
        self._administration = administration
        self._compile = compile_text
        self._compiled: dict[str, Policy] = {}
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
        self._compiled[self.active.version] = self.active

    async def get(self, version: str) -> Policy:
        """The policy of that version; the active one if that version does not fit the tools any more, so that no claim is stranded.

        Raises `InternalFault` if it was never active, and the store's refusals.
        """
        policy = self._compiled.get(version)
        if policy is None:
            stored = await self._administration.policy(version)
            if stored is None:
                raise InternalFault("The policy of an earlier claim is not stored")
            try:
                policy = self._compile(stored.body, f"the earlier policy {version}")
            except ConfigurationRefused:
                logger.bind(policy_version=version).error("an earlier policy does not fit the tools any more; the active one decides its claims")
                policy = self.active
            if len(self._compiled) >= VERSIONS_KEPT_MAX:
                self._compiled.pop(next(iter(self._compiled)))
            self._compiled[version] = policy
        return policy
