"""Spans: which are recorded, what belongs to what, and what they may say."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from paynow.observability.span_attributes import written
from paynow.observability.spans import LINKS_MAX, Span, Spans, current_span


@pytest.fixture
def ended() -> list[Span]:
    return []


@pytest.fixture
def spans(ended: list[Span]) -> Spans:
    return Spans(ended.append, sample_ratio=1.0)


@pytest.mark.parametrize(("ratio", "least", "most"), [(0.0, 0, 0), (0.25, 350, 650), (1.0, 2_000, 2_000)])
def test_a_share_of_new_traces_is_recorded(ended: list[Span], ratio: float, least: int, most: int) -> None:
    spans = Spans(ended.append, sample_ratio=ratio)
    assert least <= sum(spans.new_trace().sampled for _ in range(2_000)) <= most


def test_whether_a_trace_is_recorded_is_what_opentelemetry_would_say_of_its_id(ended: list[Span]) -> None:
    from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

    spans, theirs = Spans(ended.append, sample_ratio=0.1), TraceIdRatioBased(0.1)
    for _ in range(500):
        trace = spans.new_trace()
        says = theirs.should_sample(None, int(trace.trace_id, 16), "x").decision
        assert trace.sampled == (says is Decision.RECORD_AND_SAMPLE)


def test_outside_of_a_recorded_trace_nothing_is_recorded(spans: Spans, ended: list[Span]) -> None:
    assert spans.tool("getBalance", 1) is None
    with spans.step("claim") as step, spans.batch("claim", [1, 2], [None, None]) as batch:
        assert (step, batch, current_span()) == (None, None, None)
    assert ended == []


def test_a_step_belongs_to_its_request_and_an_error_leaves_its_class_only(spans: Spans, ended: list[Span]) -> None:
    with spans.request("GET", spans.new_trace(), began_elsewhere=False) as request:
        with pytest.raises(KeyError), spans.step("claim") as step:
            raise KeyError("4111111111111111")
        assert current_span() is request
    assert current_span() is None
    assert ended == [step, request]
    assert (step.parent_id, step.place.trace_id) == (request.place.span_id, request.place.trace_id)
    assert (step.failed, step.attributes, request.failed, request.parent_id) == (True, {"error.type": "KeyError"}, False, None)


async def test_a_span_that_is_entered_for_a_task_ends_with_it(spans: Spans) -> None:
    with spans.request("GET", spans.new_trace(), began_elsewhere=False) as request:
        attempt = spans.tool("getBalance", 1)
        assert attempt

        async def work() -> None:
            attempt.enter_task()
            assert current_span() is attempt

        await asyncio.create_task(work())
        assert current_span() is request


def test_a_batch_links_to_the_first_of_the_recorded_and_counts_all(spans: Spans, ended: list[Span]) -> None:
    served = [spans.request("POST", spans.new_trace(), began_elsewhere=False) for _ in range(LINKS_MAX + 1)]
    with spans.batch("settle", range(500), [None, *served]):
        pass
    (batch,) = ended
    assert batch.links == [span.place for span in served[:LINKS_MAX]]
    assert batch.attributes["db.operation.batch.size"] == 500
    assert batch.place.trace_id not in {span.place.trace_id for span in served}


def test_a_delivery_is_recorded_as_any_new_trace_is(spans: Spans, ended: list[Span]) -> None:
    with pytest.raises(OSError), spans.publish("kafka", [{}, {}]):
        raise OSError("broker.internal")
    with Spans(ended.append, sample_ratio=0.0).publish("kafka", [{}]):
        pass
    (span,) = ended
    assert (span.name, span.failed, span.parent_id) == ("publish kafka", True, None)
    assert written(span.attributes) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": 2,
        "error.type": "OSError",
    }


def test_what_is_not_on_the_list_or_has_another_shape_is_left_out() -> None:
    payment_id = UUID("01937a3e-5c00-7abc-8def-0123456789ab")
    told = {"paynow.payment.id": payment_id, "customer": "c_1", "error.type": "4111111111111111", "http.route": "/c_1", "paynow.decision": "perhaps"}
    assert written(told) == {"paynow.payment.id": str(payment_id)}
