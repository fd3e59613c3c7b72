"""getRiskSignals: how this payment compares with what the customer did before, and whether anyone in it is on a list."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from paynow.plugin_api import NEVER_S, Activity, Effect, Payment, Tool, ToolContext, choice, flag, hookimpl, minor_units, real, whole

USUAL_COUNT_MIN = 5
"""Of fewer allowed payments nobody can tell what is usual."""
DEVIATION_SHARE_MIN = 0.05
"""Of the mean: amounts that hardly differ must not make a small difference look large."""

OUTPUT = {
    "attempts_1m": whole(minimum=1, doc="Payments that the customer attempted in the last minute, this one included."),
    "attempts_1h": whole(minimum=1, doc="Payments attempted in the last hour, this one included."),
    "attempts_24h": whole(minimum=1, doc="Payments attempted in the last 24 hours, this one included."),
    "attempted_minor_1m": whole(
        minimum=1, doc="Sum of the amounts attempted in this currency in the last minute, this one included, in minor units."
    ),
    "attempted_minor_1h": whole(minimum=1, doc="Sum of the amounts attempted in the last hour, this one included, in minor units."),
    "attempted_minor_24h": whole(minimum=1, doc="Sum of the amounts attempted in the last 24 hours, this one included, in minor units."),
    "allowed_minor_1m": whole(minimum=0, doc="Sum of the amounts allowed in this currency in the last minute, in minor units."),
    "allowed_minor_1h": whole(minimum=0, doc="Sum of the amounts allowed in the last hour, in minor units."),
    "allowed_minor_24h": whole(minimum=0, doc="Sum of the amounts allowed in the last 24 hours, in minor units."),
    "allowed_count": whole(minimum=0, doc="Payments of the customer allowed in this currency, ever."),
    "allowed_mean_minor": whole(minimum=0, doc="Their mean amount in minor units; 0 if there are none."),
    "amount_to_mean": real(minimum=0, doc="This amount divided by that mean, to 4 decimals; 1.0 if there are none."),
    "payee_known": flag(doc="Whether a payment of this customer to this payee was allowed before."),
    "payee_list": choice("none", "allow", "block", doc="The list that the payee is on; a block outweighs an allow."),
    "customer_list": choice("none", "allow", "block", doc="The list that the customer is on; a block outweighs an allow."),
    "failed_attempts_24h": whole(minimum=0, doc="Payments of the customer blocked in the last 24 hours, in any currency."),
    "since_allowed_s": whole(
        minimum=0, maximum=NEVER_S, doc="Seconds since the last allowed payment in any currency; ten years if it is longer ago or there is none."
    ),
    "customer_age_s": whole(minimum=0, doc="Seconds since the customer's first attempt; 0 if this is the first."),
    "payee_known_s": whole(minimum=0, doc="Seconds since the customer's first allowed payment to this payee; 0 if there is none."),
    "payee_age_s": whole(minimum=0, doc="Seconds since anybody's first decided payment to this payee; 0 if none is counted yet."),
    "payee_customers_24h": whole(minimum=0, doc="Customers with a decided payment to this payee in the last 24 hours, each once."),
    "currency_new": flag(doc="Whether no payment of the customer in this currency was allowed before."),
    "amount_z_score": real(doc="How many standard deviations this amount is above the usual one, to 4 decimals; 0.0 if none is usual yet."),
    "amount_trailing_zeros": whole(minimum=0, maximum=15, doc="Zeros at the end of the amount in major units; 0 if it has decimals."),
    "daily_limit_share": real(
        minimum=0, doc="What was allowed in this currency in the last 24 hours and this amount, divided by its daily limit; 0.0 if it has none."
    ),
}

MADE = ("amount_to_mean", "currency_new", "amount_z_score", "amount_trailing_zeros", "daily_limit_share")
"""What is not read but made here, of what is read."""
TOLD = tuple(name for name in OUTPUT if name not in MADE)
told = attrgetter(*TOLD)


def amount_to_mean(payment: Payment, activity: Activity) -> float:
    return round(payment.amount_minor / activity.allowed_mean_minor, 4) if activity.allowed_mean_minor else 1.0


def amount_z_score(payment: Payment, activity: Activity) -> float:
    if activity.usual_count < USUAL_COUNT_MIN:
        return 0.0
    mean_minor = activity.usual_mean_minor
    deviation_minor = max(activity.usual_deviation_minor, DEVIATION_SHARE_MIN * mean_minor, 1.0)
    return round((payment.amount_minor - mean_minor) / deviation_minor, 4)


def amount_trailing_zeros(payment: Payment) -> int:
    digits = str(payment.amount_minor)
    return max(0, len(digits) - len(digits.rstrip("0")) - payment.decimals)


def daily_limits(own: Mapping[str, Any]) -> dict[str, int]:
    """Each currency's limit in minor units. Raises `ValueError` or `TypeError` for what is no setting of this plugin."""
    if unknown := own.keys() - {"daily_limit"}:
        raise ValueError(f"there is no setting {sorted(unknown)[0]}; there is daily_limit")
    limits = own.get("daily_limit", {})
    if not isinstance(limits, Mapping):
        raise TypeError('daily_limit must be a table of currencies, like { USD = "5000" }')
    return {currency: minor_units(amount, currency) for currency, amount in limits.items()}


@hookimpl
def paynow_register_tools(settings) -> Sequence[Tool]:
    limits = daily_limits(settings.plugins.settings.get("get_risk_signals", {}))

    async def get_risk_signals(context: ToolContext) -> Mapping[str, Any]:
        payment = context.payment
        activity = await context.activity.activity(payment)
        signals = dict(zip(TOLD, told(activity), strict=True))
        limit = limits.get(payment.currency)
        signals["amount_to_mean"] = amount_to_mean(payment, activity)
        signals["currency_new"] = not activity.allowed_count
        signals["amount_z_score"] = amount_z_score(payment, activity)
        signals["amount_trailing_zeros"] = amount_trailing_zeros(payment)
        signals["daily_limit_share"] = round((activity.allowed_minor_24h + payment.amount_minor) / limit, 4) if limit else 0.0
        return signals

    doc = "Velocity, amounts against the customer's own history, novelty of payee and currency, who else pays the payee, and lists."
    return [Tool("getRiskSignals", Effect.READ, OUTPUT, get_risk_signals, doc=doc)]
