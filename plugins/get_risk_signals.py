"""getRiskSignals: how this payment compares with what the customer did before, and whether anyone in it is on a list."""

from collections.abc import Mapping, Sequence
from typing import Any

from paynow.plugin_api import Effect, Tool, ToolContext, choice, flag, hookimpl, real, whole

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
}


async def get_risk_signals(context: ToolContext) -> Mapping[str, Any]:
    activity = await context.activity.activity(context.payment)
    mean_minor = activity.allowed_mean_minor
    amount_to_mean = round(context.payment.amount_minor / mean_minor, 4) if mean_minor else 1.0
    return {name: amount_to_mean if name == "amount_to_mean" else getattr(activity, name) for name in OUTPUT}


@hookimpl
def paynow_register_tools(settings) -> Sequence[Tool]:
    doc = "Velocity, amounts against the customer's own history, payee novelty and lists."
    return [Tool("getRiskSignals", Effect.READ, OUTPUT, get_risk_signals, doc=doc)]
