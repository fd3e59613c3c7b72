"""Fields: those on the list are written, customer and payee are hashed, the rest is named and left out."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from paynow.observability.redaction import ALLOWED, DROPPED_NAMES_MAX, HASHED, RESERVED, Redactor, pseudonym

KEY = b"secret"


def redacted(fields: dict, **options) -> dict:
    line: dict = {}
    Redactor(KEY, **options).write(fields, line)
    return line


def test_a_field_on_the_list_is_written_as_it_is() -> None:
    assert redacted({"tool": "getBalance", "attempt": 2, "degraded": True}) == {"tool": "getBalance", "attempt": 2, "degraded": True}


def test_a_field_that_is_not_on_the_list_is_left_out_and_its_name_is_noted() -> None:
    assert redacted({"amount": 5, "tool": "t", "email": "ann@example.com"}) == {"tool": "t", "dropped": ["amount", "email"]}


def test_a_field_on_the_list_with_a_value_of_another_shape_is_left_out_too() -> None:
    assert redacted({"attempt": "4111111111111111", "error": "no such card: 4111"}) == {"dropped": ["attempt", "error"]}


def test_none_is_no_value() -> None:
    assert redacted({"key_id": None, "amount": None, "customer_id": None, "tool": "t"}) == {"tool": "t"}


def test_names_that_do_not_look_like_names_in_code_are_not_repeated() -> None:
    names = {("a", 1): 1, 4111: 1, "ann@example.com": 1, "x" * 50: 1, "card_4111": 1, "": 1, None: 1}
    assert redacted(names) == {"dropped": ["?"] * len(names)}


def test_only_so_many_names_are_noted() -> None:
    assert len(redacted({f"field_{number}": 1 for number in range(100)})["dropped"]) == DROPPED_NAMES_MAX


def test_customer_and_payee_appear_as_a_keyed_hash_under_another_name() -> None:
    expected = hmac.new(KEY, b"customer:c_123", hashlib.sha256).hexdigest()[:16]
    assert redacted({"customer_id": "c_123"}) == {"customer": expected}
    assert list(redacted({"payee_id": "c_123"})) == ["payee"]
    assert redacted({"payee_id": "c_123"})["payee"] != expected


def test_another_key_gives_another_hash() -> None:
    assert pseudonym(b"one", "customer", "c_123") != pseudonym(b"two", "customer", "c_123")


def test_nobody_can_write_a_customer_in_clear_under_the_name_of_the_hash() -> None:
    assert redacted({"customer": "c_123", "payee": "p_1"}) == {"dropped": ["customer", "payee"]}


def test_a_sensitive_field_is_hashed_under_its_own_name() -> None:
    assert redacted({"device_id": "d_9", "attempt": 77}, sensitive_fields=["device_id", "attempt"]) == {
        "device_id": pseudonym(KEY, "device_id", "d_9"),
        "attempt": pseudonym(KEY, "attempt", "77"),
    }


def test_a_card_number_in_a_sensitive_field_is_hashed() -> None:
    number = 4111111111111111
    assert redacted({"card": number}, sensitive_fields=["card"]) == {"card": pseudonym(KEY, "card", str(number))}


def test_a_sensitive_value_that_is_neither_text_nor_number_or_too_long_is_left_out() -> None:
    for value in ({"a": 1}, b"d_9", True, "x" * 257, 10**5000):
        assert redacted({"customer_id": value}) == {"dropped": ["customer_id"]}


def test_a_lone_surrogate_is_hashed_like_any_text() -> None:
    assert len(redacted({"customer_id": "\ud800"})["customer"]) == 16


def test_a_plugins_field_holds_flags_numbers_and_words() -> None:
    fields = ["score", "model", "cached", "note"]
    written = redacted({"score": 0.5, "model": "v2.trees", "cached": True, "note": "ann@example.com"}, plugin_fields=fields)
    assert written == {"score": 0.5, "model": "v2.trees", "cached": True, "dropped": ["note"]}


def test_sensitive_outweighs_what_plugins_may_log() -> None:
    assert redacted({"score": 5, "customer_id": "c"}, plugin_fields=["score", "customer_id"], sensitive_fields=["score"]) == {
        "score": pseudonym(KEY, "score", "5"),
        "customer": pseudonym(KEY, "customer", "c"),
    }


def test_a_plugins_field_cannot_loosen_a_field_of_ours() -> None:
    assert redacted({"decision": "maybe"}, plugin_fields=["decision"]) == {"dropped": ["decision"]}


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Redactor(b"")


def test_no_field_has_a_name_that_the_line_itself_uses() -> None:
    assert not RESERVED & (set(ALLOWED) | set(HASHED))


SAMPLES = {
    "route": "/api/payments/decide",
    "method": "POST",
    "status": 200,
    "code": "in_flight",
    "scope": "payments:decide",
    "key_id": "k3m9x2",
    "payment_id": "01920000-0000-7000-8000-00000000abcd",
    "case_id": "01920000-0000-7000-8000-00000000abcd",
    "event_id": "01920000-0000-7000-8000-00000000abcd",
    "decision": "review",
    "reasons": ["velocity_1m"],
    "tools": ["getBalance"],
    "sinks": ["log"],
    "plugins": ["get_balance"],
    "policy_version": "9f86d081884c7d65",
    "degraded": True,
    "replayed": True,
    "on_failure": "block",
    "error": "KeyError",
    "sqlstate": "23505",
    "constraint": "accounts_available_check",
    "migration": "0001_foundation",
    "event_type": "payment.decided",
    "host": "127.0.0.1",
    "version": "0.1.0",
    "logger": "aiohttp.web",
    "file": "policy.toml",
}
WORDS = {
    "rule",
    "tool",
    "step",
    "outcome",
    "kind",
    "action",
    "duty",
    "rollback",
    "backend",
    "sink",
    "signal",
    "state",
    "source",
    "plugin",
    "hook",
    "setting",
}


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_every_field_has_a_value_that_it_lets_through_and_lets_no_personal_data_through(name: str) -> None:
    sample = SAMPLES.get(name, "word" if name in WORDS else 7)
    assert redacted({name: sample}) == {name: sample}
    for leak in ("4111111111111111", 4111111111111111, "ann@example.com", "DE89 3704 0044 0532 0130 00", "Ann Smith", {"a": "b"}, object()):
        assert redacted({name: leak}) == {"dropped": [name]}
