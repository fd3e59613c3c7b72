"""What analysts have said of payments, by payment id, in as little room as it can be. Knows not where labels come from."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from uuid import UUID

from paynow.cases.vocabulary import LABELS
from paynow.errors import PayNowError


class LabelsRefused(PayNowError):
    """Labels that cannot be used: each fault as a sentence, with its line if it has one."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


class Labels:
    """Labels by payment id, sorted: 16 bytes and one for the label, beside what Python needs for them."""

    def __init__(self, said: Iterable[tuple[UUID, str]] = ()) -> None:
        """Raises `LabelsRefused` for a payment with two different labels, and for a word that is no label."""
        pairs = sorted({(payment_id.bytes, _number(label)) for payment_id, label in said})
        self._ids = [payment_id for payment_id, _ in pairs]
        self._numbers = bytes(number for _, number in pairs)
        doubles = [UUID(bytes=one) for one, next_ in zip(self._ids, self._ids[1:], strict=False) if one == next_]
        if doubles:
            raise LabelsRefused(f"{payment_id} has two different labels" for payment_id in doubles[:20])

    def __len__(self) -> int:
        return len(self._ids)

    def within(self, first: UUID, beyond: UUID) -> Mapping[str, str]:
        """The labels of the payments from `first` to the one before `beyond`, by the ids as text."""
        span = range(bisect_left(self._ids, first.bytes), bisect_left(self._ids, beyond.bytes))
        return {str(UUID(bytes=self._ids[place])): LABELS[self._numbers[place]] for place in span}


def _number(label: str) -> int:
    try:
        return LABELS.index(label)
    except ValueError:
        raise LabelsRefused([f"a label is one of {', '.join(LABELS)}"]) from None
