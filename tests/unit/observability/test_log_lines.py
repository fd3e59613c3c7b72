"""One line per event: its form, its request id, and what happens when it cannot be written."""

from __future__ import annotations

import asyncio
import gc
import io
import re
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest
from loguru import logger

from paynow.errors import ConfigurationRefused
from paynow.observability import logs
from paynow.observability.lines import EVENT_WITHHELD, LINE_FAILED
from paynow.observability.redaction import RESERVED
from paynow.settings.model import LoggingSettings

PAYMENT_ID = "01920000-0000-7000-8000-00000000abcd"


def test_a_line_is_a_json_object_with_time_level_event_place_request_and_fields(written) -> None:
    with logs.request_context("req-00000001"):
        logger.bind(payment_id=PAYMENT_ID, decision="allow", duration_ms=4.25).info("payment decided")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", written.line["time"])
    assert list(written.line.items())[1:] == [
        ("level", "INFO"),
        ("event", "payment decided"),
        ("where", f"{__name__}:test_a_line_is_a_json_object_with_time_level_event_place_request_and_fields:26"),
        ("request_id", "req-00000001"),
        ("payment_id", PAYMENT_ID),
        ("decision", "allow"),
        ("duration_ms", 4.25),
    ]


def test_the_time_is_now_in_utc(written) -> None:
    before = datetime.now().astimezone()
    logger.info("now")
    after = datetime.now().astimezone()
    logged = datetime.fromisoformat(written.line["time"])
    assert before.replace(microsecond=before.microsecond // 1000 * 1000) <= logged <= after


def test_the_time_is_the_events_own(written) -> None:
    for second in (1, 1, 2, 90_000):
        moment = datetime(2026, 11, 24, 10, 0, 0, 7_999, tzinfo=timezone(timedelta(hours=2))) + timedelta(seconds=second)
        logger.patch(lambda record, moment=moment: record.update(time=moment)).info("timed")
    assert [line["time"][5:] for line in written.lines] == ["11-24T08:00:01.007Z"] * 2 + ["11-24T08:00:02.007Z", "11-25T09:00:00.007Z"]


def test_a_line_is_there_as_soon_as_it_is_logged(configured, tmp_path) -> None:
    with (tmp_path / "log").open("w") as stream:
        configured(stream=stream)
        logger.info("now")
        assert "now" in (tmp_path / "log").read_text()


class CountedWrites(io.StringIO):
    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


async def test_what_is_logged_in_one_turn_of_the_loop_is_written_together_and_before_a_warning(configured) -> None:
    stream = CountedWrites()
    configured(stream=stream)
    for _ in range(3):
        logger.info("one of many")
    assert stream.writes == 0
    await asyncio.sleep(0)
    assert (stream.writes, stream.getvalue().count("one of many")) == (1, 3)
    logger.info("before it")
    logger.warning("mind this")
    assert stream.getvalue().index("before it") < stream.getvalue().index("mind this")


def test_a_loop_that_ended_with_lines_waiting_keeps_no_later_one_silent(configured) -> None:
    """Its turn to write them never came; the next loop has turns of its own."""
    stream = CountedWrites()
    configured(stream=stream, level="INFO")

    async def log_and_stop() -> None:
        logger.info("logged in the last turn")
        asyncio.get_running_loop().stop()

    async def log_and_go_on() -> None:
        logger.info("logged in a later loop")
        await asyncio.sleep(0)
        assert "logged in a later loop" in stream.getvalue()

    with closing(asyncio.new_event_loop()) as loop:
        task = loop.create_task(log_and_stop())
        loop.run_forever()
        assert task.done()
        assert stream.getvalue() == ""
    asyncio.run(log_and_go_on())


async def test_what_waits_is_written_when_the_log_ends(configured) -> None:
    stream = CountedWrites()
    configured(stream=stream)
    logger.info("the last words")
    logger.remove()
    assert "the last words" in stream.getvalue()


def test_a_sink_that_is_added_afterwards_sees_no_more_of_our_lines_than_we_write(written) -> None:
    records = []
    logger.add(lambda message: records.append(message.record), format="{message}")
    try:
        raise ValueError("ann@example.com")
    except ValueError:
        logger.bind(customer_id="c_123").exception("it failed")
    assert (records[0]["extra"], records[0]["exception"]) == ({}, None)
    assert records[0]["message"] + "\n" == written.text


def test_lines_below_the_level_are_not_written(configured) -> None:
    written = configured(level="warning")
    logger.info("too small")
    logger.warning("large enough")
    assert [line["event"] for line in written.lines] == ["large enough"]


def test_configuring_again_replaces_what_was_configured(configured) -> None:
    first, second = configured(), configured()
    logger.info("once")
    assert first.text == ""
    assert second.line["event"] == "once"


async def test_tasks_and_threads_inherit_the_request_id_and_requests_do_not_mix(configured) -> None:
    written = configured(level="INFO")

    def on_a_thread() -> None:
        logger.bind(kind="thread").info("working")

    async def serve(request_id: str, both: asyncio.Barrier) -> None:
        with logs.request_context(request_id):
            await both.wait()
            assert logs.current_request_id() == request_id
            await asyncio.create_task(asyncio.to_thread(on_a_thread))

    both = asyncio.Barrier(2)
    await asyncio.gather(serve("req-00000001", both), serve("req-00000002", both))
    logger.info("outside")
    await asyncio.sleep(0)  # what is logged in one turn of the loop is written at the next
    assert sorted(line.get("request_id", "") for line in written.lines) == ["", "req-00000001", "req-00000002"]


def test_the_outer_request_id_comes_back(written) -> None:
    with logs.request_context("outer-001"):
        with pytest.raises(KeyError), logs.request_context("inner-001"):
            raise KeyError
        logger.info("outer")
    assert written.line["request_id"] == "outer-001"


@pytest.mark.parametrize("request_id", ["4111111111111111", "ann@example.com", "two words", "a\nb", "x" * 65, ""])
def test_a_request_id_that_could_hold_something_is_withheld(written, request_id) -> None:
    with logs.request_context(request_id):
        logger.info("served")
    assert written.line["request_id"] == "withheld"


def test_a_message_that_is_put_together_at_run_time_is_withheld(written) -> None:
    name = "Ann Smith"
    logger.info(f"hello {name}")
    logger.info("hello " + name)
    logger.info("hello {}", name)
    logger.info(name * 1)
    assert {line["event"] for line in written.lines[:3]} == {EVENT_WITHHELD}
    assert "hello" not in written.text


def test_a_constant_message_is_written_through_a_helper_too(written) -> None:
    def note(event: str) -> None:
        logger.opt(depth=1).info(event)

    note("a constant of the caller")
    assert written.line["event"] == "a constant of the caller"
    assert "test_a_constant_message" in written.line["where"]


def test_an_exception_is_written_as_its_class_and_frames(written) -> None:
    try:
        raise KeyError("ann@example.com")
    except KeyError:
        logger.exception("it failed")
    raised = written.line["exception"]
    assert raised["type"] == "KeyError"
    assert len(raised["frames"]) == 1
    assert "test_an_exception_is_written" in raised["frames"][0]


def test_exception_outside_of_one_is_a_plain_line(written) -> None:
    logger.exception("nothing was raised")
    assert "exception" not in written.line


def test_the_console_form_is_one_readable_line(configured) -> None:
    written = configured(form="console")
    with logs.request_context("req-00000001"):
        logger.bind(reasons=["velocity_1m", "new_payee"], customer_id="c_1", amount=5).warning("payment decided")
    line = written.text
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} WARNING  payment decided request_id=req-00000001 reasons=velocity_1m,new_payee customer=[0-9a-f]{16} "
        r"dropped=amount \(test_log_lines:test_the_console_form_is_one_readable_line:\d+\)\n",
        line,
    )


def test_the_console_form_begins_with_the_place_of_the_fault(configured) -> None:
    def fail() -> None:
        raise ValueError

    written = configured(form="console")
    try:
        fail()
    except ValueError:
        logger.exception("it failed")
    assert re.search(r"ValueError \[\S+ fail < \S+ test_the_console_form_begins", written.text)


def test_the_console_form_shows_an_exception_with_its_cause_and_members(configured) -> None:
    written = configured(form="console")
    try:
        try:
            raise ExceptionGroup("ann@example.com", [OSError("ann@example.com"), TimeoutError()])
        except ExceptionGroup as group:
            raise ValueError("ann@example.com") from group
    except ValueError:
        logger.exception("it failed")
    assert re.search(r"it failed ValueError \[.*py:\d+ test_\w+\] from ExceptionGroup \[.*\] of \{OSError; TimeoutError\} \(", written.text)
    assert written.text.count("\n") == 1
    assert "ann" not in written.text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_console_form_is_coloured_on_a_terminal_unless_colours_are_unwanted(configured, monkeypatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = Terminal(), Terminal()
    configured(form="console", stream=coloured)
    logger.error("red")
    monkeypatch.setenv("NO_COLOR", "1")
    configured(form="console", stream=plain)
    logger.error("red")
    assert "\x1b[31mERROR" in coloured.getvalue()
    assert "\x1b" not in plain.getvalue()


def test_a_line_that_cannot_be_put_together_says_so_without_values(written, monkeypatch, capfd) -> None:
    def broken(*_ignored) -> None:
        raise RuntimeError("ann@example.com")

    monkeypatch.setattr("paynow.observability.redaction.Redactor.write", broken)
    logger.bind(customer_id="c_123").info("fine")
    assert written.line.items() >= {("event", LINE_FAILED), ("error", "RuntimeError"), ("level", "ERROR")}
    assert "ann" not in written.text
    assert "c_123" not in written.text
    assert capfd.readouterr() == ("", "")


class Full(io.StringIO):
    """A stream that takes nothing while it is full."""

    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, f"no space left for {text}")
        return super().write(text)


def test_a_full_disk_does_not_reach_the_caller_and_the_next_line_says_how_many_were_lost(configured, capfd) -> None:
    stream = Full()
    configured(stream=stream)
    logger.bind(customer_id="c_123").info("lost")
    logger.info("lost")
    stream.full = False
    logger.info("written")
    logger.info("written again")
    first, second = stream.getvalue().splitlines()
    assert '"lost_lines":2' in first
    assert "lost_lines" not in second
    assert capfd.readouterr() == ("", "")


class Chatty(io.StringIO):
    """A stream in whose write something else logs, as a finaliser may."""

    def write(self, text: str) -> int:
        logger.bind(customer_id="c_123").info("from within")
        return super().write(text)


def test_a_line_that_is_logged_while_another_is_written_is_counted_as_lost(configured, capfd) -> None:
    stream = Chatty()
    configured(stream=stream)
    logger.info("first")
    logger.info("second")
    assert '"lost_lines":1' in stream.getvalue().splitlines()[1]
    assert "within" not in stream.getvalue()
    assert capfd.readouterr() == ("", "")


def test_a_plugins_lines_carry_its_name(written) -> None:
    logs.plugin_logger("device_trust").bind(score=5).info("asked")
    assert written.line["plugin"] == "device_trust"
    assert written.line["dropped"] == ["score"]


def test_a_plugins_fields_are_those_of_the_settings(configured) -> None:
    written = configured(plugin_fields=("score",), sensitive_fields=["device"])
    logs.plugin_logger("device_trust").bind(score=5, device="d_1").info("asked")
    assert written.line["score"] == 5
    assert re.fullmatch("[0-9a-f]{16}", written.line["device"])


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_plugin_field_with_a_name_of_the_line_itself_stops_the_boot(name) -> None:
    with pytest.raises(ConfigurationRefused, match=f"logging.plugin_fields: every line has {name} already"):
        logs.configure(LoggingSettings("INFO", "json", ("fine", name)), hash_key=b"k")


def test_customers_in_the_log_differ_by_key(configured) -> None:
    hashes = set()
    for key in (b"one", b"two"):
        written = configured(hash_key=key)
        logger.bind(customer_id="c_123").info("seen")
        hashes.add(written.line["customer"])
    assert len(hashes) == 2


def test_loguru_prints_nothing_of_its_own_when_an_exception_cannot_be_shown(written, capfd) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("ann@example.com")

    try:
        raise Unprintable
    except Unprintable:
        logger.bind(customer_id="c_123").exception("it failed")
    assert written.line["exception"]["type"].endswith("Unprintable")
    assert capfd.readouterr() == ("", "")
    gc.collect()
