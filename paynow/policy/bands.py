"""The short forms `currency` and `amount` of a rule, as a condition in the expression language. Knows currencies, and no tool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from paynow import money
from paynow.policy.literals import minor_of
from paynow.policy.model import PAYMENT

BAND_KEYS = ("from", "below")

Fault: TypeAlias = tuple[Sequence[str], str]


@dataclass(frozen=True, slots=True)
class _Band:
    """Amounts of one currency: from an amount, it included, up to another, it excluded, so that bands that adjoin neither overlap nor leave a gap."""

    currency: str
    bounds: Mapping[str, str]

    def condition(self) -> str:
        signs = {"from": ">=", "below": "<"}
        bounds = [f'{PAYMENT}.amount_minor {signs[key]} minor("{self.bounds[key]}", "{self.currency}")' for key in BAND_KEYS if key in self.bounds]
        return " && ".join([f'{PAYMENT}.currency == "{self.currency}"', *bounds])


def scope_of(values: Mapping[str, Any]) -> tuple[str, list[Fault]]:
    """For which payments a rule is, by its `currency` and `amount`: a condition (empty if it has neither, or a wrong one), and the faults."""
    faults = list(_faults(values))
    if faults:
        return "", faults
    currencies = _listed(values.get("currency", []))
    if "amount" not in values:
        return _among(currencies), []
    amount = values["amount"]
    bands = [_Band(currency, amount) for currency in currencies] or [_Band(currency, bounds) for currency, bounds in amount.items()]
    conditions = [band.condition() for band in bands]
    return conditions[0] if len(conditions) == 1 else " || ".join(f"({condition})" for condition in conditions), []


def _among(currencies: Sequence[str]) -> str:
    words = ", ".join(f'"{currency}"' for currency in currencies)
    return (f"{PAYMENT}.currency in [{words}]" if len(currencies) > 1 else f"{PAYMENT}.currency == {words}") if currencies else ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    currencies = _listed(values.get("currency", []))
    if "currency" in values:
        yield from _currency_faults(currencies)
    if "amount" not in values:
        return
    amount = values["amount"]
    if not isinstance(amount, dict) or not amount:
        yield ("amount",), '`amount` must be a band: { from = "100.00", below = "500.00" }, or one of them'
    elif all(isinstance(bounds, dict) for bounds in amount.values()):
        if currencies:
            yield ("amount",), "`amount` names its currencies itself here, so leave out `currency`"
        for currency, bounds in amount.items():
            yield from _unknown_currencies([currency], ("amount", currency))
            yield from _band_faults(bounds, [currency], ("amount", currency))
    elif not currencies:
        yield ("amount",), '`amount` needs the `currency` that it is in, or a band for each: { USD = { from = "100.00" }, JPY = { from = "15000" } }'
    else:
        yield from _band_faults(amount, currencies, ("amount",))


def _currency_faults(currencies: Sequence[Any]) -> Iterator[Fault]:
    if not currencies or not all(isinstance(currency, str) for currency in currencies):
        yield ("currency",), '`currency` must be a currency code in quotes, or a list of them: ["USD", "EUR"]'
        return
    yield from _unknown_currencies(currencies, ("currency",))
    if len(set(currencies)) < len(currencies):
        yield ("currency",), "a currency stands here twice"


def _unknown_currencies(currencies: Sequence[str], path: Sequence[str]) -> Iterator[Fault]:
    for currency in currencies:
        if currency not in money.exponents():
            yield path, f'"{currency}" is no currency code of ISO 4217 that has minor units'


def _band_faults(bounds: Mapping[str, Any], currencies: Sequence[Any], path: Sequence[str]) -> Iterator[Fault]:
    for key in bounds:
        if key not in BAND_KEYS:
            yield (*path, key), f"unknown key `{key}`; a band has `from` (at least) and `below` (less than)"
    if not bounds:
        yield path, "a band needs `from` (at least), `below` (less than) or both"
    for currency in (one for one in currencies if isinstance(one, str) and one in money.exponents()):
        minors = {}
        for key in (key for key in BAND_KEYS if key in bounds):
            try:
                minors[key] = minor_of(bounds[key], currency)
            except ValueError as error:
                yield (*path, key), str(error)
        if len(minors) == len(BAND_KEYS) and minors["from"] >= minors["below"]:
            yield path, "the band is empty: `from` must be less than `below`"
