"""createCase: stages a case for people to look at. The settle opens it in the same transaction as the decision, at most one per payment."""

from collections.abc import Mapping, Sequence

from paynow.plugin_api import Effect, Tool, ToolContext, hookimpl, text

OUTPUT = {"case_id": text(length_max=36, doc="The id of the case, a UUID.")}


async def create_case(context: ToolContext) -> Mapping[str, str]:
    return {"case_id": str(context.cases.stage(context.payment, context.verdict))}


@hookimpl
def paynow_register_tools(settings) -> Sequence[Tool]:
    return [Tool("createCase", Effect.WRITE, OUTPUT, create_case, doc="A review case, opened with the decision.")]
