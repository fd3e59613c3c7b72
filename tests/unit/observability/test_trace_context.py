"""`traceparent` and `tracestate` are read as the W3C's recommendation says: what is not exactly right begins a new trace."""

from __future__ import annotations

import pytest

from paynow.observability.trace_context import TraceContext, read_trace_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("sent", "sampled"),
    [
        (VALID, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-will-be-one-day", True),
    ],
)
def test_a_valid_traceparent_is_read(sent: str, sampled: bool) -> None:
    assert read_trace_context([sent], []) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "sent",
    [
        "",
        VALID.upper(),
        f" {VALID}",
        f"{VALID} ",
        f"{VALID}\n",
        f"{VALID}-",
        f"{VALID}-00",
        f"{VALID}00",
        f"cc-{TRACE}-{SPAN}-01.what",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE[:-1]}٣-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
    ],
)
def test_an_invalid_traceparent_is_none(sent: str) -> None:
    assert read_trace_context([sent], ["vendor=1"]) is None


def test_of_two_traceparents_neither_counts() -> None:
    assert read_trace_context([VALID, VALID], []) is None
    assert read_trace_context([], []) is None


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [
        (["vendor=1"], "vendor=1"),
        (["a=1, b=2\t,,c@d=3"], "a=1,b=2,c@d=3"),
        (["a=1", "b=2"], "a=1,b=2"),
        (["a= x"], "a= x"),
        (["a=" + "x" * 256], "a=" + "x" * 256),
        (["a=" + "x" * 257], ""),
        ([",".join(f"k{number}=v" for number in range(32))], ",".join(f"k{number}=v" for number in range(32))),
        ([",".join(f"k{number}=v" for number in range(33))], ""),
        (["a=" + "x" * 250 + ",b=" + "y" * 256], "a=" + "x" * 250 + ",b=" + "y" * 256),
        (["a=" + "x" * 253 + ",b=" + "y" * 256], ""),
        (["a=1,a=2"], ""),
        (["a"], ""),
        (["A=1"], ""),
        (["a=1=2"], ""),
        (["a=\x01"], ""),
        (["a=é"], ""),
        (["@a=1"], ""),
    ],
)
def test_a_tracestate_is_passed_on_as_a_whole_or_not_at_all(sent: list[str], passed_on: str) -> None:
    context = read_trace_context([VALID], sent)
    assert context == TraceContext(TRACE, SPAN, True, passed_on)


def test_what_is_written_is_what_was_read() -> None:
    for sent in (VALID, f"00-{TRACE}-{SPAN}-00"):
        context = read_trace_context([sent], [])
        assert context
        assert context.traceparent == sent
