"""docs/observability.md tells every field and every metric, no others, and what it shows works."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from loguru import logger

from paynow.observability.metrics import Metrics
from paynow.observability.readings import BUCKETS_S
from paynow.observability.redaction import ALLOWED, HASHED, RESERVED
from paynow.observability.span_attributes import ALLOWED as SPAN_ATTRIBUTES

TEXT = (Path(__file__).parents[3] / "docs" / "observability.md").read_text()


def section(title: str) -> str:
    """What stands under a heading, up to the next one."""
    return re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)[1]


def first_column(title: str) -> list[str]:
    cells = re.findall(r"^\| (`.*?) \|", section(title), re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_every_field_is_told_and_no_other() -> None:
    assert first_column("Fields") == list(ALLOWED)


def test_every_part_of_a_line_is_told() -> None:
    assert set(first_column("A line")) == RESERVED
    assert all(f"`{name}`" in TEXT for name in HASHED)


def shown_metrics() -> dict[str, tuple[str, set[str]]]:
    """Each metric as Prometheus shows it after one of everything has happened, with its type and its labels."""
    metrics = Metrics()
    metrics.request_finished("/", "GET", 200, 0.1)
    metrics.rate_limited("customer")
    metrics.limiter_failed("deny")
    metrics.jwks_fetched("ok", 1.0)
    metrics.policy_taken(True)
    metrics.shadow_behind("0123456789abcdef", 0.0)
    metrics.shadow_judged("0123456789abcdef", "allow", "review", 1)
    metrics.shadow_amount("0123456789abcdef", "allow", "review", "USD", 100.0)
    metrics.payment_decided("allow", True, 0.1)
    metrics.tool_attempt("t", "ok", 0.1)
    metrics.tool_fell_back("t", "block")
    metrics.breaker_state("t", "open")
    metrics.store_statement("claim", 0.1, "ok")
    metrics.store_batch("claim", 3)
    metrics.waiting_payments(2)
    metrics.events_delivered("log", 1)
    metrics.delivery_failed("log")
    metrics.event_buried("log")
    metrics.sink_behind("log", 3, 1.5, 1, 0, False)
    metrics.policy_watched(4, 2, 1, outside=True)
    metrics.policy_band_left(rolled_back=True)
    metrics.spans_delivered(1)
    metrics.spans_dropped("queue_full", 1)
    families = list(metrics.registry.collect())
    assert [family.name for family in families if not family.samples] == [], "this function lacks a call for them"
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in families
    }


def told_metrics() -> dict[str, tuple[str, set[str]]]:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\|", section("`GET /metrics`"), re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", labels)))) for name, kind, labels in rows}


def test_every_metric_is_told_with_its_type_and_labels_and_no_other() -> None:
    told, shown = told_metrics(), shown_metrics()
    assert {name: told.get(name) for name in shown} == shown
    assert all(name in shown or name.startswith("process_") for name in told), "what Python tells of a process differs by system"


def test_every_attribute_of_a_span_is_told_and_no_other() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \|", section("What a span says"), re.MULTILINE)
    assert rows == list(SPAN_ATTRIBUTES)


def test_names_end_in_their_units() -> None:
    for name, (kind, _) in shown_metrics().items():
        if kind == "counter":
            assert name.endswith("_total")
        elif kind == "histogram":
            assert name.endswith("_seconds")


def test_the_number_of_buckets_is_told() -> None:
    assert f"histograms with {len(BUCKETS_S)} buckets" in TEXT


def test_the_one_liner_finds_a_customer_in_the_log(configured) -> None:
    key = "a key with ümlaut"
    written = configured(hash_key=key.encode())
    logger.bind(customer_id="c_123").info("seen")
    command = re.search(r"```sh\n(.*?)\n```", section("Following one customer"), re.DOTALL)[1]
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True, env={**os.environ, "LOG_HASH_KEY": key})
    assert done.stdout.strip() == written.line["customer"]
    assert f'"customer":"{done.stdout.strip()}"' in written.text


@pytest.mark.parametrize("event", re.findall(r"^\| `([a-z' ]+)` \|", section("Exceptions, libraries, warnings"), re.MULTILINE))
def test_every_event_that_is_named_is_one(event) -> None:
    source = "".join(path.read_text() for path in (Path(__file__).parents[3] / "paynow" / "observability").glob("*.py"))
    assert f'"{event}"' in source


def test_the_examples_are_json_and_as_the_code_has_it() -> None:
    line, _, summary = (json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", TEXT, re.DOTALL))
    assert set(line) <= set(ALLOWED) | RESERVED
    assert all(ALLOWED[name](value) == value for name, value in line.items() if name in ALLOWED)
    metrics = Metrics()
    metrics.request_finished("/api/payments/decide", "POST", 200, 0.003)
    metrics.tool_attempt("getBalance", "ok", 0.001)
    assert _keys(summary) == _keys(metrics.summary())


def _keys(value: object) -> object:
    return {name: _keys(one) for name, one in value.items()} if isinstance(value, dict) else None
