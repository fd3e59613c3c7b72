"""What a tool is handed to reach PostgreSQL with, and the guard that remembers PostgreSQL's trouble whatever the tool makes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from paynow.errors import Refusal
from paynow.plugin_api import Accounts, Activity, ActivityReader, Balance, Cases, Lists, Payment, ToolError, Verdict
from paynow.store.records import Seen

if TYPE_CHECKING:
    import aiohttp


@dataclass(frozen=True, slots=True)
class Ports:
    """The doors that every tool may use. Those to PostgreSQL raise a `Refusal` when it cannot answer."""

    accounts: Accounts
    activity: ActivityReader
    lists: Lists
    http: aiohttp.ClientSession


class Guard:
    """Stands between one attempt and PostgreSQL, as `accounts`, `activity`, `lists` and `cases` in one.

    `trouble` is the first refusal that came out of a port, also if the tool swallowed or wrapped it; `waiting` is how many answers of
    PostgreSQL are outstanding. Once `over` is set, the attempt has ended or was given up, and what is left of it may use nothing any more.
    """

    __slots__ = ("_cases", "_payment", "_ports", "_seen", "over", "trouble", "waiting")

    def __init__(self, ports: Ports, cases: Cases, payment: Payment, seen: Seen | None) -> None:
        """`seen` answers what is asked of this very payment, so that it need not be read."""
        self._ports = ports
        self._cases = cases
        self._payment = payment
        self._seen = seen
        self.over = False
        self.trouble: Refusal | None = None
        self.waiting = 0

    async def balance(self, customer_id: str, currency: str) -> Balance:
        if self._seen is not None and customer_id == self._payment.customer_id and currency == self._payment.currency:
            self._refuse_if_over()
            return self._seen.balance
        return await self._asked(self._ports.accounts.balance, customer_id, currency)

    async def activity(self, payment: Payment) -> Activity:
        if self._seen is not None and payment is self._payment:
            self._refuse_if_over()
            return self._seen.activity
        return await self._asked(self._ports.activity.activity, payment)

    async def listed(self, kind: str, subject: str) -> str:
        return await self._asked(self._ports.lists.listed, kind, subject)

    def stage(self, payment: Payment, verdict: Verdict) -> UUID:
        self._refuse_if_over()
        try:
            return self._cases.stage(payment, verdict)
        except Refusal as refusal:
            self.trouble = self.trouble or refusal
            raise

    async def _asked(self, port: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        self._refuse_if_over()
        self.waiting += 1
        try:
            return await port(*arguments)
        except Refusal as refusal:
            self.trouble = self.trouble or refusal
            raise
        finally:
            self.waiting -= 1

    def _refuse_if_over(self) -> None:
        if self.over:
            raise ToolError("attempt_is_over", retry=False)


class Withheld:
    """Stands where a tool has no port: whatever is asked of it raises `ToolError` with this code."""

    __slots__ = ("_code",)

    def __init__(self, code: str) -> None:
        self._code = code

    def __getattr__(self, name: str) -> NoReturn:
        raise ToolError(self._code, retry=False)
