"""The kinds of values a key can hold: each says in words what it expects, and reads the text of an environment variable.

No message repeats the value that was refused: it may be a secret that stands in the wrong place.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import urlsplit

from marshmallow import Schema, ValidationError, fields

from paynow.api_keys import SCOPES
from paynow.money import to_minor
from paynow.settings.notation import did_you_mean, duration_s, rate_per_s

NAMES_MAX = 100
SEVERAL_MAX = 20


def toml_value(text: str) -> Any:
    """`text` read as one TOML value (`5`, `true`, `["a"]`); as it stands if it is none."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


class Key(fields.Field):
    """One key of the configuration. `expected` says what may stand there; the documentation and every fault use the same words."""

    def __init__(self, expected: str) -> None:
        super().__init__()
        self.expected = expected

    def refused(self) -> ValidationError:
        return ValidationError(f"expected {self.expected}")

    def from_text(self, text: str) -> Any:
        """The raw value that a variable's text stands for."""
        return toml_value(text)


class Whole(Key):
    def __init__(self, minimum: int, maximum: int) -> None:
        super().__init__(f"a whole number from {minimum} to {maximum}")
        self.minimum, self.maximum = minimum, maximum

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and self.minimum <= value <= self.maximum:
            return value
        raise self.refused()


class Number(Key):
    def __init__(self, minimum: float, maximum: float) -> None:
        super().__init__(f"a number from {minimum} to {maximum}")
        self.minimum, self.maximum = minimum, maximum

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and self.minimum <= value <= self.maximum:
            return float(value)
        raise self.refused()


class Switch(Key):
    def __init__(self) -> None:
        super().__init__("true or false")

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise self.refused()


class ShareBand(Key):
    """The smallest and the largest share that is meant, both included."""

    def __init__(self) -> None:
        super().__init__("a list of two numbers from 0 to 1, the smaller first")

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> tuple[float, float]:
        if isinstance(value, list) and len(value) == 2 and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in value):
            least, most = value
            if 0 <= least <= most <= 1:
                return float(least), float(most)
        raise self.refused()


class Text(Key):
    """Text of a pattern; a variable's text is the value as it stands."""

    def __init__(self, expected: str, pattern: str = ".+") -> None:
        super().__init__(expected)
        self.pattern = re.compile(pattern)

    def from_text(self, text: str) -> str:
        return text

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> Any:
        if isinstance(value, str) and self.pattern.fullmatch(value):
            return value
        raise self.refused()


class Word(Text):
    def __init__(self, *choices: str) -> None:
        super().__init__(f"one of {', '.join(choices)}", "|".join(map(re.escape, choices)))


class Duration(Text):
    """A time with its unit, in seconds inside."""

    def __init__(self, minimum: str, maximum: str) -> None:
        super().__init__(f"a time with its unit (s, m, h, d), from {minimum} to {maximum}")
        self.minimum_s, self.maximum_s = duration_s(minimum), duration_s(maximum)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> float:
        try:
            seconds = duration_s(value) if isinstance(value, str) else -1
        except ValueError:
            raise self.refused() from None
        if not self.minimum_s <= seconds <= self.maximum_s:
            raise self.refused()
        return seconds


class DurationOrOff(Duration):
    """The same, or `None` for `off`."""

    def __init__(self, minimum: str, maximum: str) -> None:
        super().__init__(minimum, maximum)
        self.expected += ', or "off"'

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> float | None:
        return None if value == "off" else super()._deserialize(value, attr, data, **kwargs)


class Rate(Text):
    """A rate with its unit, per second inside; `None` for `off`."""

    def __init__(self) -> None:
        super().__init__('a rate like 5/s, 100/m, 1000/h or 5000/d, greater than zero, or "off"')

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> float | None:
        if value == "off":
            return None
        try:
            return rate_per_s(value if isinstance(value, str) else "")
        except ValueError:
            raise self.refused() from None


class WebAddress(Text):
    """Where something is fetched by HTTP; `None` for nowhere. A name and a password in it would be a secret in the wrong place."""

    def __init__(self) -> None:
        super().__init__(
            'an https:// or http:// address without a name, a password or a fragment, or "" for none', r"(?:https?://[\x21-\x7e]{1,2000})?"
        )

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str | None:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            parts = urlsplit(text)
            whole = bool(parts.hostname) and parts.port != 0 and not parts.fragment and "@" not in parts.netloc
        except ValueError:
            raise self.refused() from None
        if text and not whole:
            raise self.refused()
        return text or None


class FilePath(Text):
    """A file or a folder. A relative path is anchored where it was written, once it is known where that is."""

    def __init__(self, expected: str) -> None:
        super().__init__(expected, r"[^\x00]+")

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Path:
        return Path(super()._deserialize(value, attr, data, **kwargs))


class FileOrNone(FilePath):
    """A file that may be left out: `None` for the empty text."""

    def __init__(self) -> None:
        super().__init__('a path of a file that exists, or "" for none')

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Path | None:
        return None if value == "" else super()._deserialize(value, attr, data, **kwargs)


class Names(Key):
    """A list of names, each once. A variable may also write them as `a,b`."""

    pattern: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")

    def __init__(self, expected: str = "a list of names, each once") -> None:
        super().__init__(expected)

    def from_text(self, text: str) -> Any:
        return toml_value(text) if text.lstrip().startswith("[") else [part.strip() for part in text.split(",")]

    def fits(self, name: Any) -> bool:
        return isinstance(name, str) and self.pattern.fullmatch(name) is not None

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > NAMES_MAX or not all(map(self.fits, value)):
            raise self.refused()
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise ValidationError(f"expected {self.expected}; named twice: {', '.join(twice)}")
        return tuple(value)


class _Several(Key):
    """A list of up to 20 values. A variable may also write them as `a,b`."""

    def from_text(self, text: str) -> Any:
        return toml_value(text if text.lstrip().startswith("[") else f"[{text}]")

    def read(self, value: Any) -> Any:
        """One of them. Raises `ValidationError`."""
        raise NotImplementedError

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > SEVERAL_MAX:
            raise self.refused()
        return tuple(map(self.read, value))


class Wholes(_Several):
    def __init__(self, minimum: int, maximum: int) -> None:
        super().__init__(f"a list of up to {SEVERAL_MAX} whole numbers from {minimum} to {maximum}")
        self.minimum, self.maximum = minimum, maximum

    def read(self, value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and self.minimum <= value <= self.maximum:
            return value
        raise self.refused()


class Numbers(_Several):
    """At least one of them."""

    def __init__(self, minimum: float, maximum: float) -> None:
        super().__init__(f"a list of 1 to {SEVERAL_MAX} numbers from {minimum} to {maximum}")
        self.minimum, self.maximum = minimum, maximum

    def read(self, value: Any) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and self.minimum <= value <= self.maximum:
            return float(value)
        raise self.refused()

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> tuple[Any, ...]:
        if value == []:
            raise self.refused()
        return super()._deserialize(value, attr, data, **kwargs)


class Amounts(_Several):
    """Amounts in major units with their currency, as pairs of the currency and minor units inside."""

    pattern: ClassVar[re.Pattern[str]] = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,4})?) ([A-Z]{3})", re.ASCII)

    def __init__(self) -> None:
        super().__init__(f'a list of up to {SEVERAL_MAX} amounts with their currency, like "1000 USD"')

    def from_text(self, text: str) -> Any:
        return toml_value(text) if text.lstrip().startswith("[") else [part.strip() for part in text.split(",")]

    def read(self, value: Any) -> tuple[str, int]:
        match = self.pattern.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise self.refused()
        try:
            return match[2], to_minor(Decimal(match[1]), match[2])
        except (KeyError, ValueError):
            raise self.refused() from None


class Texts(Names):
    """A list of texts, each once."""

    pattern: ClassVar[re.Pattern[str]] = re.compile(r"[\x21-\x7e]{1,255}")

    def __init__(self) -> None:
        super().__init__("a list of texts without spaces, each once")


class Choices(Names):
    """A list of words out of a closed set, at least one."""

    def __init__(self, *choices: str) -> None:
        super().__init__(f"a list of one or more of {', '.join(choices)}, each once")
        self.choices = choices

    def fits(self, name: Any) -> bool:
        return name in self.choices

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> tuple[Any, ...]:
        if value == []:
            raise self.refused()
        return super()._deserialize(value, attr, data, **kwargs)


class ToolNames(Names):
    """Names that a policy rule can write: `toolName.field`."""

    pattern: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class EventTypes(Names):
    """At least one type of events; with a `*` at its end all types that begin so."""

    pattern: ClassVar[re.Pattern[str]] = re.compile(r"[a-z0-9_.-]{1,100}\*?|\*")

    def __init__(self) -> None:
        super().__init__("a list of one or more types of events, each once; with * at its end one stands for all that begin so")

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> tuple[str, ...]:
        if value == []:
            raise self.refused()
        return super()._deserialize(value, attr, data, **kwargs)


class Folders(Names):
    """A list of folders, each once."""

    pattern: ClassVar[re.Pattern[str]] = re.compile(r"[^\x00]+")

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> tuple[Path, ...]:
        return tuple(map(Path, super()._deserialize(value, attr, data, **kwargs)))


class Files(Folders):
    """A list of so many files at most, each once."""

    def __init__(self, expected: str, files_max: int) -> None:
        super().__init__(expected)
        self.files_max = files_max

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> tuple[Path, ...]:
        files = super()._deserialize(value, attr, data, **kwargs)
        if len(files) > self.files_max:
            raise self.refused()
        return files


class ScopesOf(Key):
    """What others call a right, and the scopes that it stands for. A variable writes it as an inline table of TOML."""

    def __init__(self) -> None:
        super().__init__(f"a table of up to {NAMES_MAX} names, each with a list of scopes")

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> Mapping[str, frozenset[str]]:
        if not isinstance(value, dict) or len(value) > NAMES_MAX:
            raise self.refused()
        errors: dict[str, Any] = {}
        for name, scopes in value.items():
            if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
                errors[name] = ["expected a list of scopes"]
            elif unknown := [scope for scope in scopes if scope not in SCOPES]:
                errors[name] = [f"unknown scope; {did_you_mean(unknown[0], SCOPES)}"]
        if errors:
            raise ValidationError(errors)
        return MappingProxyType({name: frozenset(scopes) for name, scopes in value.items()})


class Tables(fields.Field):
    """Tables by name, `[agent.tools.NAME]`; each is of `schema`, or free if that is `None`."""

    def __init__(self, schema: Schema | None) -> None:
        super().__init__()
        self.schema = schema

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError("expected a table")
        done: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for name, table in value.items():
            try:
                done[name] = self._table(table)
            except ValidationError as error:
                errors[name] = error.messages
                done[name] = error.valid_data or {}
        if errors:
            raise ValidationError(errors, valid_data=done)
        return done

    def _table(self, table: Any) -> Any:
        if self.schema is not None:
            return self.schema.load(table, partial=True)
        if not isinstance(table, dict):
            raise ValidationError("expected a table")
        return table
