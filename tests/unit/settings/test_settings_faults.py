"""What is wrong in a file is told with its line, its key and what was expected; all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paynow.settings.load import Loaded

Faults = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        ("[server]\nprt = 1", "paynow.toml:2: server.prt: unknown key; did you mean port?"),
        (
            "[server]\nz = 1",
            "paynow.toml:2: server.z: unknown key; known here: drain_s, host, in_flight_max, port, request_max_bytes, shutdown_grace_s, workers",
        ),
        ("\n[agnet]\nplan = []", "paynow.toml:2: agnet: unknown section; did you mean agent?"),
        ("[agent.tools.getBalance]\nattemps = 1", "paynow.toml:2: agent.tools.getBalance.attemps: unknown key; did you mean attempts?"),
        ("agent = 5", "paynow.toml:1: agent: expected a table"),
        ("[agent]\ntools = 5", "paynow.toml:2: agent.tools: expected a table"),
        ("[agent.tools]\ngetBalance = 5", "paynow.toml:2: agent.tools.getBalance: expected a table"),
        ("[[server]]\nport = 1", "paynow.toml:1: server: expected a table"),
        ("[plugins.settings]\ncreate_case = 5", "paynow.toml:2: plugins.settings.create_case: expected a table"),
        ("[server]\nport = '80'", "paynow.toml:2: server.port: expected a whole number from 0 to 65535"),
        ("[server]\nport = true", "paynow.toml:2: server.port: expected a whole number from 0 to 65535"),
        ("[server]\nport = 80.0", "paynow.toml:2: server.port: expected a whole number from 0 to 65535"),
        ("[server]\nport = 65536", "paynow.toml:2: server.port: expected a whole number from 0 to 65535"),
        ("[server]\nport = -1", "paynow.toml:2: server.port: expected a whole number from 0 to 65535"),
        ("[server]\nhost = ''", "paynow.toml:2: server.host: expected a host name or an IP address"),
        ("[server]\nhost = 'a b'", "paynow.toml:2: server.host: expected a host name or an IP address"),
        ("[server]\nrequest_max_bytes = 1023", "paynow.toml:2: server.request_max_bytes: expected a whole number from 1024 to 1048576"),
        ("[server]\nshutdown_grace_s = nan", "paynow.toml:2: server.shutdown_grace_s: expected a number from 0 to 600"),
        ("[server]\nshutdown_grace_s = true", "paynow.toml:2: server.shutdown_grace_s: expected a number from 0 to 600"),
        ("[agent]\ndeadline_ms = 49", "paynow.toml:2: agent.deadline_ms: expected a whole number from 50 to 60000"),
        ("[agent.tools.getBalance]\nattempts = 0", "paynow.toml:2: agent.tools.getBalance.attempts: expected a whole number from 1 to 10"),
        (
            "[agent.tools.getBalance]\non_failure = 'allow'",
            "paynow.toml:2: agent.tools.getBalance.on_failure: expected one of block, review, ignore",
        ),
        ("[agent]\nplan = 'getBalance'", "paynow.toml:2: agent.plan: expected a list of names, each once"),
        ("[agent]\non_review = [1]", "paynow.toml:2: agent.on_review: expected a list of names, each once"),
        ("[agent]\non_review = ['a.b']", "paynow.toml:2: agent.on_review: expected a list of names, each once"),
        ("[events]\nsinks = ['']", "paynow.toml:2: events.sinks: expected a list of names, each once"),
        ("[events]\nsinks = ['a', 'b', 'a']", "paynow.toml:2: events.sinks: expected a list of names, each once; named twice: a"),
        ("[events.kafka]\ntopci = 'x'", "paynow.toml:2: events.kafka.topci: unknown key; did you mean topic?"),
        ("[events]\nkafka = 5", "paynow.toml:2: events.kafka: expected a table"),
        (
            "[events.kafka]\ntopic = '..'",
            "paynow.toml:2: events.kafka.topic: expected a topic's name: up to 249 letters, digits, dots, underscores and hyphens",
        ),
        (
            "[events.kafka]\nca_file = '/etc/passwd'",
            'paynow.toml:2: events.kafka.ca_file: has no effect while events.kafka.security_protocol is "PLAINTEXT"',
        ),
        ("[events.kafka]\npartitions = 3", "paynow.toml:2: events.kafka.partitions: has no effect while events.kafka.create_topic is false"),
        (
            "[events.kafka]\nsecurity_protocol = 'SSL'\nkey_file = '/etc/passwd'",
            "paynow.toml:3: events.kafka.key_file: events.kafka.certificate_file and events.kafka.key_file come together: "
            "a certificate and the key that belongs to it",
        ),
        (
            "[events.kafka]\nsecurity_protocol = 'SSL'\nca_file = '/nowhere/ca.pem'",
            "paynow.toml:3: events.kafka.ca_file: there is no file /nowhere/ca.pem",
        ),
        (
            "[events.rabbitmq]\ndeclare = false\nqueues = ['a']",
            "paynow.toml:3: events.rabbitmq.queues: has no effect while events.rabbitmq.declare is false",
        ),
        (
            "[events.rabbitmq]\nexchange = 'a'\ndead_letter_exchange = 'a'",
            "paynow.toml:3: events.rabbitmq.dead_letter_exchange: events.rabbitmq.dead_letter_exchange must be another exchange than "
            "events.rabbitmq.exchange",
        ),
        (
            "[events.rabbitmq]\nqueues = ['b', 'paynow.events.dead']",
            "paynow.toml:2: events.rabbitmq.queues: events.rabbitmq.dead_letter_queue must be none of events.rabbitmq.queues",
        ),
        ("[reservations]\nttl = 7", "paynow.toml:2: reservations.ttl: expected a time with its unit (s, m, h, d), from 1s to 3650d"),
        ("[reservations]\nttl = '0s'", "paynow.toml:2: reservations.ttl: expected a time with its unit (s, m, h, d), from 1s to 3650d"),
        (
            "[rate_limit]\ncustomer = '0/s'",
            'paynow.toml:2: rate_limit.customer: expected a rate like 5/s, 100/m, 1000/h or 5000/d, greater than zero, or "off"',
        ),
        (
            "[rate_limit]\ncustomer = 5",
            'paynow.toml:2: rate_limit.customer: expected a rate like 5/s, 100/m, 1000/h or 5000/d, greater than zero, or "off"',
        ),
        ("[rate_limit]\nburst = 0", "paynow.toml:2: rate_limit.burst: expected a whole number from 1 to 1000000"),
        ("[rate_limit]\non_store_failure = 'allow'", "paynow.toml:2: rate_limit.on_store_failure: expected one of deny, local"),
        ("[rate_limit]\nbackend = ''", "paynow.toml:2: rate_limit.backend: expected a name"),
        ("[policy]\nshadow = ['/none/new.toml']", "paynow.toml:2: policy.shadow: there is no file /none/new.toml"),
        ("[policy]\nshadow = 'new.toml'", "paynow.toml:2: policy.shadow: expected a list of up to 4 policy files that exist, each once"),
        (
            "[policy_guard]\nwindow = '9s'",
            'paynow.toml:2: policy_guard.window: expected a time with its unit (s, m, h, d), from 10s to 1d, or "off"',
        ),
        *(
            (
                f"[policy_guard]\nreview_band = {band}",
                "paynow.toml:2: policy_guard.review_band: expected a list of two numbers from 0 to 1, the smaller first",
            )
            for band in ("0.5", "[0.5]", "[0.5, 0.4]", "[-0.1, 1]", "[0, 1.1]", "[0, 1, 1]", "[false, true]", "['0', '1']", "[0, nan]")
        ),
        ("[policy_guard]\nroll_back = 1", "paynow.toml:2: policy_guard.roll_back: expected true or false"),
        *(
            (
                f"[telemetry]\nendpoint = '{endpoint}'",
                "paynow.toml:2: telemetry.endpoint: expected an address like http://collector:4318 without a password, or nothing",
            )
            for endpoint in ("collector:4318", "http://user:word@collector", "grpc://collector:4317", "http://collector/?key=1")
        ),
        ("[policy]\nfile = 5", "paynow.toml:2: policy.file: expected a path of a file that exists"),
        ("[logging]\nlevel = 'info'", "paynow.toml:2: logging.level: expected one of TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("[server]\nport =\nhost = 'a'", "paynow.toml:2: is not valid TOML: Invalid value (at line 2, column 7)"),
        ("[server]\nhost = 'a", 'paynow.toml:2: is not valid TOML: Expected "\'" (at end of document)'),
        ("[server]\nport = 1\nport = 2\n", "paynow.toml:3: is not valid TOML: Cannot overwrite a value (at line 3, column 9)"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_its_line(toml: str, fault: str, faults: Faults) -> None:
    assert faults(toml) == [fault]


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        (
            "[agent]\ndeadline_ms = 8500",
            "paynow.toml:2: agent.deadline_ms: idempotency.lease_s (10 s) must be longer than agent.deadline_ms (8500 ms) and "
            "database.statement_timeout_ms (1500 ms, the settle's time limit) together: more than 10 s",
        ),
        (
            "[idempotency]\nlease_s = 3.5",
            "paynow.toml:2: idempotency.lease_s: idempotency.lease_s (3.5 s) must be longer than agent.deadline_ms (2000 ms) and "
            "database.statement_timeout_ms (1500 ms, the settle's time limit) together: more than 3.5 s",
        ),
        (
            "[agent.tools.getBalance]\ntimeout_ms = 2001",
            "paynow.toml:2: agent.tools.getBalance.timeout_ms: agent.tools.getBalance.timeout_ms (2001 ms) must not be longer than "
            "agent.deadline_ms (2000 ms)",
        ),
        (
            "[agent]\nplan = ['getBalance', 'createCase']",
            "paynow.toml:2: agent.plan: a tool is either in agent.plan or in agent.on_review; in both: createCase",
        ),
        (
            "[agent.tools.getBalnce]\nattempts = 1",
            "paynow.toml:2: agent.tools.getBalnce: the tool is in no plan; did you mean getBalance?",
        ),
        (
            "[agent]\nplan = ['getRiskSignals']\n[agent.tools.getBalance]\nattempts = 1",
            "paynow.toml:4: agent.tools.getBalance: the tool is in no plan; known here: createCase, getRiskSignals",
        ),
        (
            "[server]\nworkers = 2\n[rate_limit]\nbackend = 'memory'",
            'paynow.toml:4: rate_limit.backend: rate_limit.backend = "memory" with server.workers = 2: memory holds for one process only',
        ),
    ],
)
def test_keys_that_do_not_go_together_are_told(toml: str, fault: str, faults: Faults) -> None:
    assert faults(toml) == [fault]


def test_a_guard_that_nothing_could_ever_wake_is_a_fault(faults: Faults) -> None:
    message = "both policy_guard.review_band and policy_guard.block_band hold every share from 0 to 1: nothing could ever leave them"
    assert faults("[policy_guard]\nwindow = '5m'") == [f"paynow.toml:2: policy_guard.window: {message}"]


def test_a_guard_that_was_described_and_not_switched_on_is_a_fault(faults: Faults) -> None:
    message = 'has no effect without policy_guard.window, which is "off" unless you set it'
    assert faults("[policy_guard]\nblock_band = [0, 0.1]\nroll_back = true") == [
        f"paynow.toml:2: policy_guard.block_band: {message}",
        f"paynow.toml:3: policy_guard.roll_back: {message}",
    ]


def test_traces_that_were_described_and_not_switched_on_are_a_fault(faults: Faults, loaded: Callable[..., Loaded]) -> None:
    message = 'has no effect without telemetry.traces, which is "off" unless you set it'
    assert faults("[telemetry]\nendpoint = 'http://collector:4318'\nsample_ratio = 0.1") == [
        f"paynow.toml:2: telemetry.endpoint: {message}",
        f"paynow.toml:3: telemetry.sample_ratio: {message}",
    ]
    assert loaded("[telemetry]\ntraces = 'off'\nsample_ratio = 0.1\nfollow_traceparent = false").settings.telemetry.sample_ratio == 0.1


def test_a_rule_blames_the_key_that_was_set_last(faults: Faults) -> None:
    (fault,) = faults("[rate_limit]\nbackend = 'memory'", {"PAYNOW_SERVER__WORKERS": "2"})
    assert fault.startswith("environment PAYNOW_SERVER__WORKERS: server.workers: ")


def test_a_deadline_shorter_than_built_in_limits_is_the_deadlines_fault(faults: Faults) -> None:
    found = faults("[agent]\nplan = ['myTool']\non_review = []\ndeadline_ms = 399")
    assert found == ["paynow.toml:4: agent.deadline_ms: agent.tools.myTool.timeout_ms (400 ms) must not be longer than agent.deadline_ms (399 ms)"]


def test_paths_that_a_user_names_have_to_be_there(faults: Faults, here: Path) -> None:
    assert faults("[plugins]\ndirs = ['ours']\n[policy]\nfile = 'rules.toml'") == [
        f"paynow.toml:2: plugins.dirs: there is no folder {here / 'ours'}",
        f"paynow.toml:4: policy.file: there is no file {here / 'rules.toml'}",
    ]


def test_a_pooler_needs_a_way_through_it_and_one_past_it(faults: Faults) -> None:
    toml = "[database]\npooler = 'transaction'"
    missing = "has to be set with a pooler: DATABASE_URL leads to it, DATABASE_DIRECT_URL past it to PostgreSQL itself"
    assert faults(toml) == [f"paynow.toml:2: database.pooler: {name} {missing}" for name in ("DATABASE_URL", "DATABASE_DIRECT_URL")]
    assert faults(toml, {"DATABASE_URL": "x"}) == [f"paynow.toml:2: database.pooler: DATABASE_DIRECT_URL {missing}"]
    assert faults(environ={"DATABASE_DIRECT_URL": "x"}) == [
        "environment DATABASE_DIRECT_URL: leads past a pooler, but DATABASE_URL, which leads to it, is not set: set both, or DATABASE_URL alone"
    ]


def test_all_faults_come_at_once(faults: Faults) -> None:
    toml = "[server]\nport = 'x'\nprt = 1\nworkers = 2\n[rate_limit]\nbackend = 'memory'\n[agent.tools.a]\nattempts = 1"
    assert [fault.split(": ")[1] for fault in faults(toml, {"PAYNOW_EVENTS__POLL_MS": "0"}, "DATABASE_URL_FILE=missing")] == [
        "DATABASE_URL",
        "server.port",
        "server.prt",
        "events.poll_ms",
        "agent.tools.a",
        "rate_limit.backend",
    ]


@pytest.mark.parametrize(
    "toml",
    [
        "[agent]\nplan = 5\n[agent.tools.mine]\nattempts = 1",
        "[agent]\ndeadline_ms = 0\n[idempotency]\nlease_s = 1\n[agent.tools.getBalance]\ntimeout_ms = 60000",
        "[server]\nworkers = 'x'\n[rate_limit]\nbackend = 'memory'",
    ],
)
def test_no_rule_judges_by_a_value_that_a_faulty_one_hides(toml: str, faults: Faults) -> None:
    (fault,) = faults(toml)
    assert fault.startswith("paynow.toml:2: ")


def test_a_table_with_one_faulty_key_is_judged_by_its_others(faults: Faults) -> None:
    toml = "[agent.tools.getBalance]\nattempts = 0\ntimeout_ms = 3000\n[agent.tools.getRiskSignals]\ntimeout_ms = 4000"
    assert [fault.split(": ")[1] for fault in faults(toml)] == [
        "agent.tools.getBalance.attempts",
        "agent.tools.getBalance.timeout_ms",
        "agent.tools.getRiskSignals.timeout_ms",
    ]


def test_a_list_of_names_is_bounded(faults: Faults) -> None:
    names = ", ".join(f"'n{number}'" for number in range(101))
    assert faults(f"[events]\nsinks = [{names}]") == ["paynow.toml:2: events.sinks: expected a list of names, each once"]


def test_an_attempt_may_take_the_whole_deadline(loaded: Callable[..., Loaded]) -> None:
    assert loaded("[agent.tools.getBalance]\ntimeout_ms = 2000").settings.agent.tools["getBalance"].timeout_ms == 2000


def test_a_wrong_value_is_told_even_if_another_source_outweighs_it(faults: Faults) -> None:
    assert faults("[server]\nport = 'x'", {"PAYNOW_SERVER__PORT": "1"}) == ["paynow.toml:2: server.port: expected a whole number from 0 to 65535"]


def test_a_refused_value_is_never_repeated(faults: Faults) -> None:
    everywhere = "\n".join(
        f"[{section}]\n{key} = 'canary secret'" for section, key in [("server", "port"), ("events", "sinks"), ("logging", "level")]
    )
    assert "canary" not in "".join(faults(everywhere, {"PAYNOW_AGENT__DEADLINE_MS": "canary secret"}, "canary secret\n"))


def test_a_file_that_cannot_be_read_is_a_fault(faults: Faults, here: Path) -> None:
    assert faults(environ={"PAYNOW_CONFIG": str(here / "missing.toml")}) == [f"{here}/missing.toml: cannot be read: No such file or directory"]
    assert faults(environ={"PAYNOW_CONFIG": str(here)}) == [f"{here}: cannot be read: Is a directory"]
    (here / "latin.toml").write_bytes(b'a = "\xe9"')
    assert faults(environ={"PAYNOW_CONFIG": "latin.toml"}) == [f"{here}/latin.toml: is not UTF-8 text"]


def test_a_dotenv_that_cannot_be_read_is_a_fault(faults: Faults, here: Path) -> None:
    (here / ".env").mkdir()
    assert faults() == [".env: cannot be read: Is a directory"]
    (here / ".env").rmdir()
    (here / ".env").write_bytes(b"A=\xe9")
    assert faults() == [".env: is not UTF-8 text"]
