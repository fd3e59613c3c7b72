"""Spans and words: what is left of them, and what calculations may give."""

from __future__ import annotations

import pytest

from paynow.plugin_api import choice, flag, real, text, whole
from paynow.policy.ranges import INT_MAX, INT_MIN, REAL_MAX, Span, Truth, Words, arithmetic, declared


@pytest.mark.parametrize(
    ("field", "range_"),
    [
        (whole(), Span(INT_MIN, INT_MAX, True)),
        (whole(minimum=0, maximum=9), Span(0, 9, True)),
        (real(), Span(-REAL_MAX, REAL_MAX, False)),
        (real(minimum=0, maximum=1), Span(0.0, 1.0, False)),
        (flag(), Truth(frozenset({True, False}))),
        (choice("a", "b"), Words(frozenset({"a", "b"}))),
        (text(), Words(None)),
    ],
)
def test_a_field_may_be_what_it_declares(field, range_):
    assert declared(field) == range_


def test_neighbours_of_a_bound_are_exact():
    digits, share = Span(0, 9, True), Span(0.0, 1.0, False)
    assert (digits.above(4), digits.below(4)) == (Span(5, 9, True), Span(0, 3, True))
    assert (share.above(0.5).low, share.below(0.5).high) == (0.5000000000000001, 0.49999999999999994)
    assert digits.above(9).empty
    assert share.above(1.0).empty
    assert Span(-REAL_MAX, REAL_MAX, False).above(REAL_MAX).empty


def test_only_an_end_can_be_left_out_of_a_span():
    digits = Span(0, 9, True)
    assert (digits.without(0), digits.without(9), digits.without(5)) == (Span(1, 9, True), Span(0, 8, True), digits)


def test_words_that_were_excluded_stay_excluded():
    anything_but_a = Words(None).without(frozenset({"a"}))
    assert anything_but_a.only(frozenset({"a", "b"})) == Words(frozenset({"b"}))
    assert Words(frozenset({"a"})).meet(anything_but_a).empty
    assert anything_but_a.meet(Words(None).without(frozenset({"b"}))) == Words(None, frozenset({"a", "b"}))


@pytest.mark.parametrize(
    ("left", "operator", "right", "result"),
    [
        ((1, 2), "_+_", (10, 20), (11, 22)),
        ((1, 2), "_-_", (10, 20), (-19, -8)),
        ((-3, 2), "_*_", (-5, 7), (-21, 15)),
        ((-7, 7), "_/_", (2, 3), (-3, 3)),
        ((0, INT_MAX), "_+_", (1, 5), (1, INT_MAX)),
    ],
)
def test_calculations_with_whole_numbers_keep_the_ends(left, operator, right, result):
    assert arithmetic(operator, Span(*left, True), Span(*right, True)) == Span(*result, True)


def test_a_calculation_that_always_overflows_gives_nothing():
    assert arithmetic("_*_", Span(INT_MAX, INT_MAX, True), Span(2, 3, True)).empty


def test_what_may_become_infinite_or_divide_by_zero_is_not_followed():
    huge, share = Span(-REAL_MAX, REAL_MAX, False), Span(0.0, 1.0, False)
    assert arithmetic("_+_", huge, huge) is None
    assert arithmetic("_*_", huge, huge) is None
    assert arithmetic("_/_", huge, share) is None
    assert arithmetic("_/_", Span(1, 5, True), Span(0, 5, True)) is None
    assert arithmetic("_%_", Span(1, 5, True), Span(2, 5, True)) is None
