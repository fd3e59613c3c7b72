"""Labels by payment id: found by ranges of ids, and refused where they contradict each other."""

from __future__ import annotations

from uuid import UUID

import pytest

from paynow.backtest.labels import Labels, LabelsRefused


def test_labels_are_found_by_the_range_that_holds_them_the_end_not_included() -> None:
    labels = Labels(
        [(UUID(int=30), "unclear"), (UUID(int=10), "confirmed_fraud"), (UUID(int=20), "false_positive"), (UUID(int=10), "confirmed_fraud")]
    )
    assert len(labels) == 3
    assert labels.within(UUID(int=10), UUID(int=30)) == {str(UUID(int=10)): "confirmed_fraud", str(UUID(int=20)): "false_positive"}
    assert labels.within(UUID(int=11), UUID(int=20)) == {}
    assert labels.within(UUID(int=0), UUID(int=(1 << 128) - 1)).keys() == {str(UUID(int=number)) for number in (10, 20, 30)}


def test_two_labels_of_one_payment_and_words_that_are_none_are_refused() -> None:
    with pytest.raises(LabelsRefused, match="has two different labels"):
        Labels([(UUID(int=1), "unclear"), (UUID(int=1), "confirmed_fraud")])
    with pytest.raises(LabelsRefused, match="a label is one of confirmed_fraud"):
        Labels([(UUID(int=1), "fraud")])
