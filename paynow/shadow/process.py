"""The service's side: sees to it that one process reads along, and shows what the candidates came to."""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from loguru import logger

from paynow.clock import Clock
from paynow.errors import Refusal
from paynow.shadow.follower import Handover
from paynow.store.shadows import ReadBehind, ShadowCount, Shadows

RESTART_FIRST_S = 1.0
RESTART_MAX_S = 30.0
WELL_AFTER_S = 60.0
"""A process that lived so long was well: when it ends the next one starts after the shortest wait again."""
SHOW_EVERY_S = 5.0
WORD_MAX = 100
"""What the process says at its end is one word; nothing else that it writes is read."""


class Meters(Protocol):
    """What is shown of candidates."""

    def shadow_behind(self, candidate: str, seconds: float) -> None:
        """How old the oldest decision is that it has not judged."""

    def shadow_judged(self, candidate: str, recorded: str, judged: str, decisions: int) -> None:
        """How often it came to `judged` where `recorded` was decided."""

    def shadow_amount(self, candidate: str, recorded: str, judged: str, currency: str, amount_minor: float) -> None:
        """What the amounts of those come to in a currency."""


class ShadowProcess:
    """`keep` and `show` run for as long as the service does."""

    def __init__(self, handover: Handover, versions: Sequence[str], shadows: Shadows, metrics: Meters, clock: Clock) -> None:
        self._handover = handover
        self._versions = tuple(versions)
        self._shadows = shadows
        self._metrics = metrics
        self._clock = clock

    async def keep(self) -> None:
        """Starts a process, and another when it ends."""
        failures = 0
        while True:
            began_s = self._clock.monotonic()
            try:
                error = await self._live()
            except Exception as refused:  # whatever it is: who does not keep it lets shadow policies stop, and nobody sees it
                error = type(refused).__name__
            failures = 0 if self._clock.monotonic() - began_s >= WELL_AFTER_S else failures
            wait_s = min(RESTART_FIRST_S * 2**failures, RESTART_MAX_S)
            failures = min(failures + 1, 30)
            logger.bind(error=error, wait_s=wait_s).warning("the process of the shadow policies ended, another takes its place")
            await self._clock.sleep(wait_s)

    async def show(self) -> None:
        """Shows again and again what the candidates came to."""
        while True:
            try:
                self._tell(await self._shadows.policies(self._versions), await self._shadows.verdicts(self._versions))
            except Refusal as refusal:
                logger.bind(error=refusal.code).debug("what shadow policies came to could not be read")
            except Exception as error:
                logger.bind(error=type(error).__name__).opt(exception=True).error("showing what shadow policies came to failed")
            await self._clock.sleep(SHOW_EVERY_S)

    def _tell(self, policies: Sequence[ReadBehind], counts: Sequence[ShadowCount]) -> None:
        for policy in policies:
            self._metrics.shadow_behind(policy.version, policy.behind_s)
        decisions: Counter[tuple[str, str, str]] = Counter()
        for count in counts:
            decisions[count.version, count.recorded, count.candidate] += count.decisions
            self._metrics.shadow_amount(count.version, count.recorded, count.candidate, count.currency, float(count.amount_minor))
        for verdicts, number in decisions.items():
            self._metrics.shadow_judged(*verdicts, number)

    async def _live(self) -> str:
        """One process, from its start to its end; why it ended, in a word."""
        process = await asyncio.create_subprocess_exec(
            *_command(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(pickle.dumps(self._handover))
            said = (await process.stdout.read(WORD_MAX)).decode("ascii", "replace")
            if said:
                return said if said.isidentifier() else "it wrote what nobody asked for"
            return f"exit code {await process.wait()}"
        finally:
            process.stdin.close()
            with suppress(ProcessLookupError):
                process.kill()
            await process.stdout.read()  # asyncio sees no end of a process whose pipe is full
            await process.wait()


def _command() -> list[str]:
    """The program. It looks for modules in the current folder only if this process does."""
    isolated = [] if str(Path.cwd()) in sys.path else ["-P"]
    return [sys.executable, *isolated, "-m", "paynow.shadow.follower"]
