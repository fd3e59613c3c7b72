"""What tools find behind their ports: run against the doubles for plugin authors and against PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol
from uuid import UUID

from paynow.plugin_api import NEVER_S, Accounts, ActivityReader, Balance, Lists, Payment

PAYMENT = Payment(UUID("01920000-0000-7000-8000-0000000000c1"), customer_id="c_123", payee_id="p_789", amount_minor=12_550, currency="USD")


class World(Protocol):
    """The ports, and how a test fills what lies behind them."""

    accounts: Accounts
    activity: ActivityReader
    lists: Lists

    async def put_account(self, customer_id: str, currency: str, available_minor: int) -> None: ...

    async def put_on_list(self, kind: str, subject: str, listing: str) -> None: ...

    async def attempt(self, payment: Payment) -> None:
        """The payment is claimed: its attempt is counted."""


class PortsContract:
    """To be inherited. The fixture `world` is an empty world."""

    async def test_an_unknown_account_has_nothing(self, world: World) -> None:
        assert await world.accounts.balance("c_none", "USD") == Balance(0, 0)

    async def test_an_account_has_what_was_put_there_in_its_own_currency(self, world: World) -> None:
        await world.put_account("c_123", "USD", 10_000)
        assert await world.accounts.balance("c_123", "USD") == Balance(10_000, 0)
        assert await world.accounts.balance("c_123", "EUR") == Balance(0, 0)
        assert await world.accounts.balance("c_124", "USD") == Balance(0, 0)

    async def test_a_first_payment_is_its_own_only_attempt(self, world: World) -> None:
        await world.attempt(PAYMENT)
        activity = await world.activity.activity(PAYMENT)
        assert (activity.attempts_1m, activity.attempts_1h, activity.attempts_24h) == (1, 1, 1)
        assert (activity.attempted_minor_1m, activity.attempted_minor_24h) == (12_550, 12_550)
        assert (activity.allowed_minor_1m, activity.allowed_count, activity.allowed_mean_minor) == (0, 0, 0)
        assert (activity.payee_known, activity.payee_list, activity.customer_list) == (False, "none", "none")
        assert (activity.failed_attempts_24h, activity.usual_count, activity.usual_mean_minor, activity.usual_deviation_minor) == (0, 0, 0.0, 0.0)
        assert (activity.customer_age_s, activity.payee_known_s, activity.payee_age_s, activity.payee_customers_24h) == (0, 0, 0, 0)
        assert activity.since_allowed_s == NEVER_S

    async def test_who_is_on_no_list_is_listed_as_none(self, world: World) -> None:
        assert await world.lists.listed("payee", "p_789") == "none"

    async def test_a_list_knows_payees_from_customers(self, world: World) -> None:
        await world.put_on_list("payee", "x_1", "allow")
        assert await world.lists.listed("payee", "x_1") == "allow"
        assert await world.lists.listed("customer", "x_1") == "none"

    async def test_a_block_outweighs_an_allow(self, world: World) -> None:
        await world.put_on_list("customer", "c_123", "allow")
        await world.put_on_list("customer", "c_123", "block")
        assert await world.lists.listed("customer", "c_123") == "block"

    async def test_a_payment_of_another_amount_counts_its_own(self, world: World) -> None:
        payment = replace(PAYMENT, amount_minor=1)
        await world.attempt(payment)
        assert (await world.activity.activity(payment)).attempted_minor_1h == 1
