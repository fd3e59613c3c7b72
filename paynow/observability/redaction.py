"""What may stand in a log line: an allow-list of fields, each with the shape of its values. All else is left out, and its name is noted.

The customer and the payee appear as a keyed hash only, which still lets an operator who has the key follow one of them.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Mapping
from functools import lru_cache, partial

from paynow.observability import shapes
from paynow.observability.shapes import WITHHELD, Check

_WORD_OR_NUMBER = shapes.either(shapes.whole, shapes.word)
_PLUGIN_VALUE = shapes.either(shapes.flag, shapes.number, shapes.word)

ALLOWED: Mapping[str, Check] = {
    # the request
    "route": shapes.route,
    "method": shapes.method,
    "status": _WORD_OR_NUMBER,
    "duration_ms": shapes.number,
    "code": shapes.code,
    "scope": shapes.word,
    "key_id": shapes.like(r"[A-Za-z0-9_-]{2,32}", numbers=True),
    # the decision
    "payment_id": shapes.uuid,
    "case_id": shapes.uuid,
    "decision": shapes.decision,
    "reasons": shapes.several(shapes.word),
    "rule": shapes.word,
    "policy_version": shapes.like(r"(?:sha256:)?[0-9a-f]{6,64}", numbers=True),
    "review_share": shapes.number,
    "block_share": shapes.number,
    "degraded": shapes.flag,
    "replayed": shapes.flag,
    # the agent
    "tool": shapes.word,
    "tools": shapes.several(shapes.word),
    "attempt": shapes.whole,
    "attempts": shapes.whole,
    "wait_s": shapes.number,
    "held_ms": shapes.number,
    "timeout_ms": shapes.number,
    "on_failure": shapes.one_of("block", "review", "ignore"),
    "error": shapes.code,
    # the store
    "step": shapes.word,
    "outcome": shapes.word,
    "sqlstate": shapes.like(r"[0-9A-Z]{5}"),
    "constraint": shapes.like(r"[a-z][a-z0-9_]{0,62}"),
    "migration": shapes.either(shapes.whole, shapes.like(r"[0-9]{1,6}(?:_[a-z0-9_]{1,60})?"), shapes.word),
    "open": shapes.whole,
    "busy": shapes.whole,
    "waiting": shapes.whole,
    "rows": shapes.whole,
    # limits and events
    "kind": shapes.word,
    "action": shapes.word,
    "duty": shapes.word,
    "rollback": shapes.word,
    "backend": shapes.word,
    "event_id": shapes.uuid,
    "event_type": shapes.word,
    "sink": shapes.word,
    "sinks": shapes.several(shapes.word),
    "events": shapes.whole,
    "lag_s": shapes.number,
    "count": shapes.whole,
    # the process
    "host": shapes.like(r"[A-Za-z0-9.:-]{1,100}"),
    "port": shapes.whole,
    "version": shapes.like(r"[0-9]{1,6}(?:\.[0-9A-Za-z+-]{1,20}){0,5}"),
    "worker": _WORD_OR_NUMBER,
    "workers": shapes.whole,
    "pid": shapes.whole,
    "signal": shapes.word,
    "exit_code": shapes.whole,
    "state": shapes.word,
    "source": shapes.word,
    "logger": shapes.like(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+){0,9}"),
    "plugin": shapes.word,
    "plugins": shapes.several(shapes.word),
    "hook": shapes.word,
    "setting": shapes.word,
    "file": shapes.like(r"[A-Za-z0-9_-]{1,60}\.(?:toml|py|sql|csv)"),
}
"""Every field that PayNow's own code may bind, with the check of its values. A new field is a line here and one in docs/observability.md."""

HASHED: Mapping[str, str] = {"customer_id": "customer", "payee_id": "payee"}
"""Fields that are written as a keyed hash, and the name that they have then."""

RESERVED = frozenset({"time", "level", "event", "where", "request_id", "trace_id", "dropped", "exception", "lost_lines", *HASHED.values()})
"""Names that the line itself uses. A plugin's field cannot have them."""

DROPPED_NAMES_MAX = 16
SENSITIVE_LENGTH_MAX = 256

_NAME = re.compile(r"(?!.*[0-9]{4})[A-Za-z_][A-Za-z0-9_]{0,39}")
_HASHES_KEPT = 4_096


def pseudonym(hash_key: bytes, kind: str, value: str) -> str:
    """The keyed hash under which a value appears: HMAC-SHA256 over `kind:value` in UTF-8, its first 16 hexadecimal digits.

    The kind is the name of the field in the line (`customer`, `payee`), so that one id has different hashes in different roles.
    """
    return hmac.digest(hash_key, f"{kind}:{value}".encode("utf-8", "surrogatepass"), "sha256")[:8].hex()


class Redactor:
    """Turns the fields that were bound to a line into those that may be written."""

    def __init__(self, hash_key: bytes, *, sensitive_fields: Collection[str] = (), plugin_fields: Collection[str] = ()) -> None:
        """Sensitive fields are hashed whoever logs them and whatever other list names them; plugin fields hold flags, numbers and words.
        Raises `ValueError` for an empty key."""
        if not hash_key:
            raise ValueError("the key for hashes in the log is empty")
        self._pseudonym = lru_cache(_HASHES_KEPT)(partial(pseudonym, hash_key))
        checks = {**dict.fromkeys(plugin_fields, _PLUGIN_VALUE), **ALLOWED}
        hashed = {**{name: name for name in sensitive_fields}, **HASHED}
        self._rules: dict[str, tuple[str, Check]] = {name: (name, check) for name, check in checks.items()}
        self._rules |= {name: (written, self._hash_as(written)) for name, written in hashed.items()}

    def write(self, fields: Mapping[str, object], line: dict[str, object]) -> None:
        """Adds what may be written of `fields` to the line, and under `dropped` the names of the rest. None says nothing and is left out."""
        dropped: list[str] = []
        for name, value in fields.items():
            if value is None:
                continue
            written, check = self._rules.get(name, _UNKNOWN)
            safe = check(value)
            if safe is not WITHHELD:
                line[written] = safe
            elif len(dropped) < DROPPED_NAMES_MAX:
                dropped.append(_safe_name(name))
        if dropped:
            line["dropped"] = dropped

    def _hash_as(self, kind: str) -> Check:
        def check(value: object) -> object:
            text = str(value) if type(value) is int and value.bit_length() <= SENSITIVE_LENGTH_MAX else shapes.plain_text(value)
            return self._pseudonym(kind, text) if text is not None and len(text) <= SENSITIVE_LENGTH_MAX else WITHHELD

        return check


_UNKNOWN: tuple[str, Check] = ("", lambda _value: WITHHELD)


def _safe_name(name: object) -> str:
    """The name of a field that was left out, if it looks like one that stands in code."""
    return name if type(name) is str and _NAME.fullmatch(name) else "?"
