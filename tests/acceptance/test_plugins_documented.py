"""The tool in five minutes of docs/plugins.md decides a payment as pasted, and its events are those of docs/events.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

from service import body, open_account
from waiting import eventually_async

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = json.loads(re.search(r"^```json\n(.+?)^```$", (DOCS / "events.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[1])
TYPES = set(re.findall(r"^\| `(paynow\.\S+)` \|", (DOCS / "events.md").read_text(encoding="utf-8"), re.MULTILINE))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.+?)^```$", (DOCS / "plugins.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


async def test_the_tool_in_five_minutes_stands_in_the_trace_and_a_rule_reads_it(plugin_service, tmp_path: Path) -> None:
    configuration, policy = blocks("toml")
    (tmp_path / "policy.toml").write_text(policy, encoding="utf-8")
    service = plugin_service({"get_exposure": blocks("python")[0]}, configuration, {"PAYNOW_POLICY__FILE": ""})
    open_account(service.dsn, "c_1", 1_000_000)
    async with service.client() as client:
        for amount, decision in (("400.00", "allow"), ("200.00", "review")):
            async with client.post("/api/payments/decide", json=body(amount=amount, key=f"k-{amount}")) as response:
                answer = await response.json()
            assert answer["decision"] == decision
        (step,) = [step for step in answer["agentTrace"] if step.get("tool") == "getExposure"]
        assert (step["status"], step["output"]) == ("ok", {"share": 1.2})
        assert [reason["code"] for reason in answer["reasons"]] == ["daily_allowance"]


async def test_events_look_as_documented(service) -> None:
    open_account(service.dsn, "c_1", 1_000_000)
    async with service.client() as client:
        for number, end in enumerate(("capture", "release")):
            async with client.post("/api/payments/decide", json=body(amount="1.00", key=f"k-{number}")) as response:
                payment_id = (await response.json())["paymentId"]
            async with client.post(f"/api/payments/{payment_id}/{end}") as response:
                assert response.status == 200

        async def events() -> list[dict]:
            async with client.get("/api/events/recent") as response:
                items = (await response.json())["items"]
            return items[::-1] if len(items) == 4 else []

        found = await eventually_async(events)
    assert all(list(event) == list(EXAMPLE) for event in found)
    assert list(found[0]["data"]) == list(EXAMPLE["data"])
    met_elsewhere = {"paynow.reservation.expired", "paynow.case.resolved", "paynow.policy.band_left", "paynow.policy.band_returned"}
    assert {event["type"] for event in found} == TYPES - met_elsewhere
    assert [int(event["sequence"]) for event in found] == [1, 2, 3, 4]
    assert len({event["id"] for event in found}) == 4


def test_the_documented_event_names_its_customer_as_the_relay_would() -> None:
    from paynow.events.envelope import partition_key

    assert EXAMPLE["partitionkey"] == partition_key(EXAMPLE["data"]["customerId"])
