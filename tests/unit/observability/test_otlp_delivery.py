"""What waits to be sent to a collector is bounded, and failures are told by PayNow once, not by the SDK each time."""

from __future__ import annotations

import pytest
from loguru import logger

from collector import Collector
from paynow.observability import otlp
from paynow.observability.spans import Spans
from paynow.settings.model import TelemetrySettings
from waiting import meanwhile


class MetersDouble:
    def __init__(self) -> None:
        self.delivered = 0
        self.dropped: list[tuple[str, int]] = []

    def spans_delivered(self, count: int) -> None:
        self.delivered += count

    def spans_dropped(self, why: str, count: int) -> None:
        self.dropped.append((why, count))


def settings(endpoint: str) -> TelemetrySettings:
    return TelemetrySettings("otlp", endpoint, "", 1.0, True)


async def test_spans_that_find_no_room_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "QUEUE_MAX", 3)
    monkeypatch.setattr(otlp, "BATCH_MAX", 3)
    monkeypatch.setattr(otlp, "EVERY_MS", 60_000)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    collector, meters = Collector(), MetersDouble()
    collector.hangs.set()
    delivery = otlp.Delivery(settings(collector.url), None, meters)
    spans = Spans(delivery.take, sample_ratio=1.0)

    def end(count: int) -> None:
        for _ in range(count):
            with spans.publish("kafka", []):
                pass

    end(3)
    await meanwhile(lambda: delivery._sender.seen == 3)  # they are on their way to a collector that does not answer
    end(5)
    assert meters.dropped == [("queue_full", 1)] * 2
    collector.stop()
    await delivery.close()


async def test_what_is_left_is_sent_at_the_end_and_a_failure_is_one_line(configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    written = configured(level="WARNING")
    collector = Collector()
    for listens in (True, False):
        if not listens:
            collector.stop()
        meters = MetersDouble()
        delivery = otlp.Delivery(settings(collector.url), None, meters)
        with Spans(delivery.take, sample_ratio=1.0).publish("kafka", []):
            pass
        await delivery.close()
        assert (meters.delivered, meters.dropped) == ((1, []) if listens else (0, [("not_delivered", 1)]))
    logger.complete()
    assert [line["event"] for line in written.lines] == ["the collector takes no spans, they are dropped until it does"]
