"""How urgent a case is when it is opened, and by when it is due: by amount, score and what was missing. Pure."""

from __future__ import annotations

from typing import NamedTuple

from paynow.plugin_api import Payment
from paynow.settings import CaseSettings


class Terms(NamedTuple):
    """`priority` is the higher the more urgent; `due_s` are the seconds from the opening."""

    priority: int
    due_s: int


def terms_of(settings: CaseSettings, payment: Payment, *, degraded: bool, score: int | None) -> Terms:
    """A step for each amount of the payment's currency that is reached, one if a tool had failed, and one for each score that is reached.

    `score` is what the scores of the rules come to at most, where some are not certain; None under a policy without scores.
    """
    reached = sum(currency == payment.currency and payment.amount_minor >= amount_minor for currency, amount_minor in settings.amount_bands)
    reached += degraded
    reached += sum(score >= band for band in settings.score_bands) if score is not None else 0
    return Terms(reached, round(settings.due_h[min(reached, len(settings.due_h) - 1)] * 3600))
