"""What PayNow promises, as a model in memory: who has how much, which key was answered how, and everything that has to be stored for it.

Knows nothing of HTTP, of SQL or of time. Amounts are minor units.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

REVIEWED_PAYEE = "p_look"
"""The policy under test has every payment to it looked at, and blocks what the balance does not cover."""

Place = tuple[str, str]
"""A customer and a currency, or a customer and a key."""
ENTRY_OF = {"captured": "capture", "released": "release", "expired": "expire"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One payment as a caller asks about it."""

    customer: str
    key: str
    payee: str
    amount: int
    currency: str

    @property
    def slot(self) -> Place:
        return self.customer, self.key

    @property
    def account(self) -> Place:
        return self.customer, self.currency


@dataclass(slots=True)
class Decided:
    """The one decision of a key; `reservation` is None if it holds none."""

    asked: Asked
    answer: bytes
    decision: str
    payment_id: str
    reservation: str | None
    ended: bytes | None = None
    """The answer to whoever ended it."""


@dataclass(slots=True)
class Account:
    opening: int
    available: int = 0
    reserved: int = 0
    entries: Counter = field(default_factory=Counter)

    def enter(self, kind: str, available: int, reserved: int, payment_id: str | None = None) -> None:
        self.available += available
        self.reserved += reserved
        self.entries[kind, available, reserved, payment_id] += 1


@dataclass(slots=True)
class Facts:
    """All that is stored about some customers, in a form that a model and a database can both say."""

    balances: dict[Place, tuple[int, int]]
    entries: dict[Place, Counter]
    keys: dict[Place, tuple[str, str]]
    payments: dict[str, tuple[Asked, str, str | None, bytes]]
    events: dict[str, Counter]
    sequences: dict[str, list[int]]
    cases: Counter
    attempts: dict[Place, tuple[int, int]]
    spending: dict[Place, tuple[int, int]]
    usual: dict[Place, tuple[int]]
    failed: dict[str, int]
    payees: set[tuple[str, str]]

    def differences(self, other: Facts) -> dict[str, tuple[object, object]]:
        """The facts that are not the same, as said here and there."""
        pairs = {one.name: (getattr(self, one.name), getattr(other, one.name)) for one in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


class Model:
    """What must be so. Everything that is told to it is checked against the promises first."""

    def __init__(self) -> None:
        self.accounts: dict[Place, Account] = {}
        self.decided: dict[Place, Decided] = {}
        self.claimed: dict[Place, tuple[Asked, str]] = {}
        """Keys whose process died before they were decided, and the payment id that they have already."""
        self.ends: list[Decided] = []

    @property
    def held(self) -> list[Decided]:
        return [one for one in self.decided.values() if one.reservation == "held"]

    def available(self, account: Place) -> int:
        return self.accounts[account].available if account in self.accounts else 0

    def import_outcome(self, account: Place, opening: int, adjust: bool) -> str | None:
        """What an import of this opening amount comes to, None if it has to be refused."""
        known = self.accounts.get(account)
        if known is None:
            return "created"
        if known.opening == opening:
            return "unchanged"
        return "adjusted" if adjust and known.available + opening - known.opening >= 0 else None

    def imported(self, account: Place, opening: int, outcome: str) -> None:
        known = self.accounts.setdefault(account, Account(opening))
        if outcome == "created" and opening:
            known.enter("credit", opening, 0)
        elif outcome == "adjusted":
            known.enter("adjust", opening - known.opening, 0)
        known.opening = opening

    def judged(self, answers: Sequence[tuple[Asked, bytes]], freed: Mapping[Place, int] | None = None) -> None:
        """Payments that were decided side by side, each key once: whatever their order was, it has to explain the answers.

        `freed` is what was given back to accounts meanwhile, by reservations that are told to have ended afterwards.
        """
        by_account = defaultdict(list)
        for asked, answer in answers:
            by_account[asked.account].append((asked, answer, json.loads(answer)))
        for account, group in by_account.items():
            before = self.available(account)
            most = before + (freed or {}).get(account, 0)
            allowed = sum(asked.amount for asked, _, said in group if said["decision"] == "allow")
            assert allowed <= most, f"{account} had {most}, and {allowed} of it was allowed"
            for asked, answer, said in group:
                self._check_answer(asked, said, most, before - allowed)
                self._decide(asked, answer, said)

    def _check_answer(self, asked: Asked, said: dict, most: int, least: int) -> None:
        """`most` and `least`: the bounds of what was available while it and all that ran with it were decided."""
        codes = [reason["code"] for reason in said["reasons"]]
        assert not said["degraded"], said
        assert (asked.payee == REVIEWED_PAYEE) == ("looked_at" in codes) or (said["decision"] == "block" and codes == ["insufficient_funds"]), said
        match said["decision"]:
            case "allow":
                assert codes == []
                assert asked.payee != REVIEWED_PAYEE
                assert said["reservation"]["status"] == "held"
            case "review":
                assert asked.payee == REVIEWED_PAYEE
                assert codes == ["looked_at"]
                assert asked.amount <= most
                assert said["caseId"]
            case "block":
                assert "insufficient_funds" in codes
                assert asked.amount > least, f"{asked} was blocked, with at least {least} available all the time"
            case other:
                raise AssertionError(other)
        if said["decision"] != "allow":
            assert said["reservation"] is None

    def _decide(self, asked: Asked, answer: bytes, said: dict) -> None:
        assert asked.slot not in self.decided, "two decisions of one key"
        claimed = self.claimed.pop(asked.slot, None)
        assert claimed in (None, (asked, said["paymentId"])), "a claim that was taken over keeps its payment id"
        allowed = said["decision"] == "allow"
        self.decided[asked.slot] = Decided(asked, answer, said["decision"], said["paymentId"], "held" if allowed else None)
        if allowed:
            self.accounts[asked.account].enter("reserve", -asked.amount, asked.amount, said["paymentId"])

    def ended(self, one: Decided, state: str) -> None:
        """A held reservation has ended as `captured`, `released` or `expired`."""
        assert one.reservation == "held", f"it was {one.reservation}, and has ended again as {state}"
        one.reservation = state
        amount = one.asked.amount
        self.accounts[one.asked.account].enter(ENTRY_OF[state], 0 if state == "captured" else amount, -amount, one.payment_id)
        self.ends.append(one)

    def facts(self) -> Facts:
        """What has to be stored, no more and no less."""
        decided = list(self.decided.values())
        claimed = list(self.claimed.values())
        allowed = [one for one in decided if one.decision == "allow"]
        events: dict[str, Counter] = defaultdict(Counter)
        for one in decided:
            events[one.asked.customer]["paynow.payment.decided", one.payment_id, one.decision] += 1
        for one in self.ends:
            events[one.asked.customer][f"paynow.reservation.{one.reservation}", one.payment_id, one.reservation] += 1
        return Facts(
            balances={place: (account.available, account.reserved) for place, account in self.accounts.items()},
            entries={place: account.entries for place, account in self.accounts.items() if account.entries},
            keys={one.asked.slot: ("decided", one.payment_id) for one in decided}
            | {asked.slot: ("processing", payment_id) for asked, payment_id in claimed},
            payments={one.payment_id: (one.asked, one.decision, one.reservation, one.answer) for one in decided},
            events=dict(events),
            sequences={customer: list(range(1, told.total() + 1)) for customer, told in events.items()},
            cases=Counter(one.payment_id for one in decided if one.decision == "review"),
            attempts=_sums([one.asked for one in decided] + [asked for asked, _ in claimed]),
            spending=_sums(one.asked for one in allowed),
            usual={place: (count,) for place, (count, _) in _sums(one.asked for one in allowed).items()},
            failed=dict(Counter(one.asked.customer for one in decided if one.decision == "block")),
            payees={(one.asked.customer, one.asked.payee) for one in allowed},
        )


def _sums(payments: Iterable[Asked]) -> dict[Place, tuple[int, int]]:
    """How many payments, and of how much, by account."""
    sums: dict[Place, tuple[int, int]] = {}
    for asked in payments:
        count, amount = sums.get(asked.account, (0, 0))
        sums[asked.account] = (count + 1, amount + asked.amount)
    return sums
