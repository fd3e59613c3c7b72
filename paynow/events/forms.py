"""What events say: one declaration for each type. Whoever writes an event makes its data of it, and the schemas for consumers are made of it.

Fields are added here and never taken away, renamed or given another meaning: docs/events.md, "What may change".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

from paynow.events.envelope import SEQUENCE_DIGITS

Decision = Literal["allow", "review", "block"]
End = Literal["captured", "released", "expired"]
Resolution = Literal["approved", "declined"]
Rollback = Literal["done", "not_wanted", "not_an_activation", "late", "none_good", "does_not_fit"]
"""What became of the policy guard's way back: done; or not asked for by the settings, not from what was rolled back to or seeded, not so long after
the activation, with no good policy to return to, or with one that does not fit the tools any more."""

MAY_GAIN_WORDS = object()
"""Marks a field whose words are those of today: there may be others tomorrow."""


def told(meaning: str, **keywords: Any) -> dict[str, Any]:
    """A field's meaning, and what JSON Schema can say of it beyond its type."""
    return {"description": meaning, **keywords}


def _moment(meaning: str) -> dict[str, Any]:
    return told(f"{meaning}: RFC 3339 in UTC with milliseconds", format="date-time", pattern=r"^[0-9T:-]{19}\.[0-9]{3}Z$")


_PAYMENT = told("The payment's id", format="uuid")
_POLICY = told("The version of the policy", pattern="^[0-9a-f]{32}$")
_SHARE = {"minimum": 0, "maximum": 1}


class Envelope(TypedDict):
    """CloudEvents 1.0 in JSON. There may be other attributes tomorrow."""

    specversion: Annotated[Literal["1.0"], told("The version of CloudEvents")]
    id: Annotated[str, told("The event's own id, the same however often it is delivered", format="uuid")]
    source: Annotated[str, told("With the id it tells events apart: `/paynow`", format="uri-reference", minLength=1)]
    type: Annotated[str, told("What kind of event it is. There may be others tomorrow", minLength=1)]
    subject: Annotated[str, told("What it is about", minLength=1)]
    time: Annotated[str, _moment("When it happened")]
    datacontenttype: Annotated[Literal["application/json"], told("What `data` is")]
    sequence: Annotated[
        str,
        told(
            "The event's number among the customer's own, from 1 without gaps, padded so that its text sorts", pattern=f"^[0-9]{{{SEQUENCE_DIGITS}}}$"
        ),
    ]
    partitionkey: Annotated[str, told("The same for all events of a customer; half of the SHA-256 of its id", pattern="^[0-9a-f]{32}$")]
    data: Annotated[dict[str, Any], told("What happened")]


class PaymentFacts(TypedDict):
    """The payment's own facts, which never change."""

    paymentId: Annotated[str, _PAYMENT]
    customerId: Annotated[str, told("Who pays", minLength=1, maxLength=64)]
    payeeId: Annotated[str, told("Who is paid", minLength=1, maxLength=64)]
    amount: Annotated[str, told("Major units, with all the decimals of the currency", pattern=r"^[0-9]+(\.[0-9]+)?$")]
    currency: Annotated[str, told("ISO 4217", pattern="^[A-Z]{3}$")]


class PaymentDecidedData(PaymentFacts):
    """A decision."""

    decision: Annotated[Decision, told("Whether the payment may move")]
    reasons: Annotated[list[str], told("Why: the codes of the policy's rules and of PayNow's own reasons")]
    degraded: Annotated[bool, told("A tool failed, and its fallback was used")]
    policyVersion: Annotated[str, _POLICY]
    caseId: Annotated[str | None, told("The case that was opened with a review", format="uuid")]
    decidedAt: Annotated[str, _moment("When it was decided")]


class ReservationEndedData(PaymentFacts):
    """The end of a reservation, for its full amount."""

    reservation: Annotated[End, told("How it ended")]


class CaseResolvedData(PaymentFacts):
    """What people decided about a review."""

    caseId: Annotated[str, told("The case's id", format="uuid")]
    resolution: Annotated[Resolution, told("What they decided")]
    resolvedBy: Annotated[str, told("The id of the key that did", minLength=1)]
    reservation: Annotated[Literal["held"] | None, told("`held` if it was approved: its money is reserved now")]


class PolicyBandData(TypedDict):
    """The shares of reviews and blocks among the active policy's decisions, and the bands that they are held to."""

    policyVersion: Annotated[str, _POLICY]
    activatedAt: Annotated[str, _moment("When it became the active one")]
    windowS: Annotated[float, told("Seconds that are looked at", exclusiveMinimum=0)]
    decisions: Annotated[int, told("Decisions in them", minimum=1)]
    reviewShare: Annotated[float, told("The share of reviews", **_SHARE)]
    reviewBand: Annotated[tuple[float, float], told("From and to, both included")]
    blockShare: Annotated[float, told("The share of blocks", **_SHARE)]
    blockBand: Annotated[tuple[float, float], told("From and to, both included")]
    rollback: Annotated[Rollback | None, told("What became of the guard's way back; null when the shares are back"), MAY_GAIN_WORDS]
    rolledBackTo: Annotated[str | None, told("The version that the guard has made the active one", pattern="^[0-9a-f]{32}$")]


@dataclass(frozen=True, slots=True)
class EventType:
    """A type of events: its name, when one is written, the form of its `data`, and of its `subject`."""

    type: str
    when: str
    data: type
    subject: Any

    @property
    def name(self) -> str:
        """As schemas and messages are called: `PaymentDecided`."""
        return "".join(word.capitalize() for word in self.type.removeprefix("paynow.").replace("_", ".").split("."))


_OF_PAYMENT = Annotated[str, _PAYMENT]
_OF_POLICY = Annotated[str, _POLICY]

EVENT_TYPES = (
    EventType("paynow.payment.decided", "A payment was decided: allowed, sent to review or blocked", PaymentDecidedData, _OF_PAYMENT),
    EventType("paynow.reservation.captured", "A reservation was captured: the money has left", ReservationEndedData, _OF_PAYMENT),
    EventType("paynow.reservation.released", "A reservation was released: the money may be spent again", ReservationEndedData, _OF_PAYMENT),
    EventType("paynow.reservation.expired", "Nobody ended a reservation in time: the money may be spent again", ReservationEndedData, _OF_PAYMENT),
    EventType("paynow.case.resolved", "People approved or declined the case of a review", CaseResolvedData, _OF_PAYMENT),
    EventType("paynow.policy.band_left", "The decisions of the active policy have left their band", PolicyBandData, _OF_POLICY),
    EventType("paynow.policy.band_returned", "They are back in it, under this version or the one before", PolicyBandData, _OF_POLICY),
)
"""Every type that PayNow writes."""
