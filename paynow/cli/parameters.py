"""Kinds of arguments and options: what is typed is checked before anything is started, and refused with what was expected (exit code 2)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from paynow.settings.notation import duration_s, rate_per_s

TEXT_LENGTH_MAX = 200
_PARTY = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z", re.ASCII)


class PartyId(click.ParamType):
    """The id of a customer or payee."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _PARTY.match(value):
            self.fail("expected 1 to 64 of the characters A-Z a-z 0-9 _ . : -", param, ctx)
        return value


class PlainText(click.ParamType):
    """A name or a reason: it is shown in tables, so it has no control characters, and stored, so it is text."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.strip() or not value.isprintable() or len(value) > TEXT_LENGTH_MAX:
            self.fail(f"expected 1 to {TEXT_LENGTH_MAX} printable characters", param, ctx)
        return value


class Duration(click.ParamType):
    """A time like `90d`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            seconds = duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not 0 < seconds <= timedelta(days=36_500).total_seconds():
            self.fail("expected a time from 1s to 36500d", param, ctx)
        return timedelta(seconds=seconds)


class Moment(click.ParamType):
    """A moment like `2026-11-01` or `2026-11-01T12:00:00+01:00`; without a zone it is UTC."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail("expected a moment like 2026-11-01 or 2026-11-01T12:00:00Z", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class RatePerS(click.ParamType):
    """A rate like `100/s`, as so many a second."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return rate_per_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
