"""The values that cross the wall: what a use case hands in, and what it gets back. Ids are UUIDs, amounts minor units, times aware UTC.

Those that every decision makes are named tuples: a frozen dataclass takes three times as long to be made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from paynow.plugin_api import Activity, Balance, Payment


class ClaimRequest(NamedTuple):
    """A payment that wants to be decided under a key. `token` (32 hexadecimal digits) is fresh for each try.

    `policy_version` counts only if the key is new.
    """

    payment: Payment
    key: str
    fingerprint: bytes
    token: str
    request_id: str
    policy_version: str


class Allowance(NamedTuple):
    """What is left of the customer's token bucket after a claim that asked it."""

    remaining: int
    retry_after_s: float
    reset_s: float


class Seen(NamedTuple):
    """What the claim has brought along for the payment that it claimed: the customer's money and history, this attempt included."""

    balance: Balance
    activity: Activity


class Claim(NamedTuple):
    """How a claim came out. `outcome` is one of `claimed`, `taken_over`, `decided`, `in_flight`, `mismatch`, `rate_limited`, `vanished`.

    `payment_id` and `policy_version` are those of the key's first claim; `answer` is set when decided; `allowance` when the limit was asked.
    """

    outcome: str
    payment_id: UUID | None
    policy_version: str | None
    answer: bytes | None
    allowance: Allowance | None
    seen: Seen | None = None
    """Set where the whole batch was claimed anew; else the tools read for themselves."""


@dataclass(frozen=True, slots=True)
class Case:
    """A case to be opened with the decision; `reasons` is finished JSON. Without `due_s`, seconds from its opening, it is due after a day."""

    case_id: UUID
    reasons: bytes
    priority: int = 0
    due_s: int | None = None


class Finished(NamedTuple):
    """A finished answer and the data of its event, both as JSON."""

    answer: bytes
    event_data: bytes


class Settlement(NamedTuple):
    """A decided payment on its way into the database. `policy_version` is that of the policy that decided it."""

    claim: ClaimRequest
    policy_version: str
    decision: str
    degraded: bool
    decided_at: datetime
    reserved_until: datetime
    event_id: UUID
    finished: Finished
    case: Case | None
    case_pending: bool


class Settled(NamedTuple):
    """How a settle came out: `settled` with the decision and the answer that hold, or nothing was written and both are None.

    `short`: it was to be allowed and the money is gone; the claim is still ours. `fenced`: the claim's token was old.
    """

    outcome: str
    decision: str | None = None
    answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class StoredPayment:
    """A decision as it stands in the database now."""

    payment: Payment
    decision: str
    reservation: str | None
    reserved_until: datetime | None
    reservation_ended_at: datetime | None
    case_id: UUID | None
    policy_version: str
    decided_at: datetime
    answer: bytes


@dataclass(frozen=True, slots=True)
class ReservationEnd:
    """How the wish to end a reservation came out: `ended`, `already`, `other`, `not_reserved`, `unknown` or `not_due`."""

    outcome: str
    state: str | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Account:
    """One account of a customer."""

    currency: str
    available_minor: int
    reserved_minor: int


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key as it is kept: never the key itself."""

    key_id: str
    name: str
    secret_sha256: bytes
    scopes: tuple[str, ...]
    rate_per_s: float | None
    rate_burst: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredCase:
    """A review for people."""

    case_id: UUID
    payment_id: UUID
    customer_id: str
    status: str
    amount_minor: int
    currency: str
    reasons: list[dict[str, str]]
    opened_at: datetime
    priority: int
    """The higher the more urgent."""
    due_at: datetime
    holder: str | None
    """The API key that has claimed it."""
    claimed_at: datetime | None
    label: str | None
    resolved_by: str | None
    resolved_at: datetime | None
    reserved_until: datetime | None
    """Until when the money is held that its approval reserved; it stays when the reservation has ended."""


class CaseFilter(NamedTuple):
    """Which cases are asked for; None and False do not filter. `holder` is a key's id, ages are seconds since the opening."""

    status: str | None = None
    holder: str | None = None
    label: str | None = None
    currency: str | None = None
    amount_min_minor: int | None = None
    amount_max_minor: int | None = None
    age_min_s: float | None = None
    age_max_s: float | None = None
    overdue: bool = False


class CaseAct(NamedTuple):
    """One entry of a case's history: `claimed`, `unclaimed`, `approved`, `declined`, `noted` (with a note) or `labelled` (with a label)."""

    act: str
    actor: str
    note: str | None
    label: str | None
    acted_at: datetime


class CaseOutcome(NamedTuple):
    """How an act came out (`done`, `already`, `held`, `resolved`, `short` or `unknown`), and the case as it is then."""

    outcome: str
    case: StoredCase | None


class ListingLine(NamedTuple):
    """A line of a file of list entries."""

    line: int
    kind: str
    subject: str
    listing: str
    reason: str
    expires_at: datetime | None


class Listing(NamedTuple):
    """One entry of the lists: a `customer` or `payee`, on the `allow` or `block` list. `author` is not known of what is old."""

    kind: str
    subject: str
    listing: str
    reason: str
    author: str | None
    added_at: datetime
    expires_at: datetime | None


class PolicyActivation(NamedTuple):
    """A policy was made the active one (`cause`: `seeded` from the configured file, `activated` or `rolled_back`), or `proposed` to be, and that
    was `approved` or `refused`."""

    version: str
    cause: str
    author: str
    at: datetime


class PolicyProposal(NamedTuple):
    """A policy that was proposed to be the active one. `status`: `open`, `approved`, `refused`, or `overtaken` by another activation."""

    position: int
    version: str
    author: str
    at: datetime
    status: str
    judged_by: str | None
    judged_at: datetime | None
    body: str | None
    """None where several are shown."""


class WatchedPolicy(NamedTuple):
    """The active policy and its decisions lately. `activation` is the place of its activation in their history, `cause` as there."""

    activation: int
    version: str
    cause: str
    activated_at: datetime
    age_s: float
    """Since the activation, by the database's clock."""
    decisions: int
    reviews: int
    blocks: int
    counted: bool
    """They were counted by this very question."""
    complete: bool
    """No slice of time is missing."""
    outside: bool
    """What was told last of the shares, under whichever policy: that they have left their band."""
    told_of: int | None
    """The activation of which it was told."""
    inside_s: float | None
    """Since the shares were last seen outside under this activation; None if that was never told."""


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy version with its text."""

    version: str
    body: str
    author: str
    added_at: datetime
    active: bool


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event on its way to a sink. `sequence` counts the customer's own events, `place` those of its partition.

    With a `retry_id` it is one that the sink gets by itself, for the `attempts + 1`st time; then it has no place.
    """

    partition: int
    place: int
    event_id: UUID
    customer_id: str
    sequence: int
    type: str
    subject: str
    occurred_at: datetime
    data: dict[str, Any]
    retry_id: int | None = None
    attempts: int = 0


class RelayShare(NamedTuple):
    """The partitions that a relay has, those of them that it should give up because others have fewer, and whether others serve other sinks."""

    held: tuple[int, ...]
    surplus: tuple[int, ...]
    others_differ: bool = False


class SinkBehind(NamedTuple):
    """How far a sink is behind: events that it lacks, the age of the oldest in seconds, those that it gets by themselves later, its dead letters.

    No more than 10,000 are counted of the last two, and of events that no relay has seen yet.
    """

    sink: str
    events: int
    oldest_s: float
    retries: int
    dead_letters: int
    disabled: bool


class DeadLetter(NamedTuple):
    """An event that a sink refused for good, or that was tried for days."""

    sink: str
    event_id: UUID
    customer_id: str
    sequence: int
    type: str
    subject: str
    occurred_at: datetime
    error: str
    refused_at: datetime
