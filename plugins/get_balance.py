"""getBalance: what the customer may spend in the payment's currency, and what is reserved already."""

from collections.abc import Mapping, Sequence

from paynow.plugin_api import Effect, Tool, ToolContext, hookimpl, whole

OUTPUT = {
    "available_minor": whole(minimum=0, doc="What may be spent in the payment's currency, in minor units; 0 if there is no such account."),
    "reserved_minor": whole(minimum=0, doc="What is reserved for allowed payments that have not ended, in minor units."),
}


async def get_balance(context: ToolContext) -> Mapping[str, int]:
    balance = await context.accounts.balance(context.payment.customer_id, context.payment.currency)
    return {"available_minor": balance.available_minor, "reserved_minor": balance.reserved_minor}


@hookimpl
def paynow_register_tools(settings) -> Sequence[Tool]:
    return [Tool("getBalance", Effect.READ, OUTPUT, get_balance, doc="The customer's balance in the payment's currency.")]
