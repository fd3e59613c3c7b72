"""The names that rules may use: the payment's own and the fields of the tools, with their types, and how they are spoken of."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from paynow import money
from paynow.plugin_api import Field, choice, text, whole
from paynow.policy.model import PAYMENT

KIND_WORDS = {int: "a whole number", float: "a real number", bool: "true or false", str: "a text"}
CHOICES_SHOWN_MAX = 12


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Every name, with the field that describes it."""

    fields: Mapping[str, Field]

    @classmethod
    def of(cls, tools: Mapping[str, Mapping[str, Field]]) -> Vocabulary:
        """The names of a payment and of these tools' outputs."""
        spoken_of = {PAYMENT: _payment_fields(), **tools}
        return cls({f"{tool}.{name}": field for tool, output in spoken_of.items() for name, field in output.items()})

    def kinds(self) -> dict[str, type]:
        return {name: field.kind for name, field in self.fields.items()}

    def nearest(self, name: str) -> str | None:
        """The known name that was probably meant."""
        endings = [known for known in self.fields if known.endswith(f".{name}")]
        return next(iter(endings or difflib.get_close_matches(name, self.fields, 1)), None)

    def meaning(self, name: str) -> str:
        """What a name may be: `a whole number, at least 1`."""
        return meaning_of(name, self.fields[name])


def meaning_of(name: str, field: Field) -> str:
    """What the value of a field may be."""
    if field.choices:
        return choices_spoken(name, field)
    bounds = [(field.minimum, "at least"), (field.maximum, "at most")]
    return ", ".join([KIND_WORDS[field.kind], *(f"{words} {bound}" for bound, words in bounds if bound is not None)])


def choices_spoken(name: str, field: Field) -> str:
    """`one of "none", "allow", "block"`; a list too long to read is named instead."""
    if name == f"{PAYMENT}.currency":
        return "a currency code of ISO 4217 that has minor units"
    shown = ", ".join(f'"{word}"' for word in field.choices[:CHOICES_SHOWN_MAX])
    return f"one of {shown}" + (", …" if len(field.choices) > CHOICES_SHOWN_MAX else "")


def tool_of(name: str) -> str | None:
    """The tool that says a declared name; None for the payment's own."""
    tool = name.partition(".")[0]
    return None if tool == PAYMENT else tool


def _payment_fields() -> dict[str, Field]:
    return {
        "amount_minor": whole(minimum=1, maximum=money.AMOUNT_MINOR_MAX),
        "currency": choice(*sorted(money.exponents())),
        "customer_id": text(length_max=64),
        "payee_id": text(length_max=64),
    }
