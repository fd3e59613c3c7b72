"""Which rules are recognised as impossible, and which must never be."""

from __future__ import annotations

import time

import pytest
from policy_samples import faults_of_when

IMPOSSIBLE = """
payment.amount_minor < 1
payment.amount_minor > 1000000000000000
payment.amount_minor == 0
!(payment.amount_minor >= 1)
getDevice.age_days > 10 && getDevice.age_days < 5
getDevice.age_days > 10 && getDevice.age_days < 11
getDevice.score > 0.5 && getDevice.score < 0.5
getDevice.score > 1.0
getDevice.score < 0.0
getDevice.label == 'x' && getDevice.label == 'y'
getDevice.label == 'x' && getDevice.label != 'x'
getDevice.label in ['x', 'y'] && getDevice.label == 'z'
!(getDevice.label in ['x', 'y']) && getDevice.label == 'x'
getDevice.kind != 'phone' && getDevice.kind != 'tablet' && getDevice.kind != 'desk'
!(getDevice.kind in ['phone', 'tablet', 'desk'])
payment.currency == 'USD' && payment.currency in ['EUR', 'JPY']
getDevice.trusted && !getDevice.trusted
getDevice.trusted != getDevice.trusted
getDevice.trusted == true && getDevice.trusted == false
(getDevice.age_days > 5) == (getDevice.age_days > 5 && getDevice.score > 1.0) && getDevice.age_days == 6
getDevice.age_days in [5000, 6000]
getDevice.age_days in []
getDevice.age_days > payment.amount_minor && payment.amount_minor > 4000
getDevice.age_days < payment.amount_minor && payment.amount_minor < 1
getDevice.age_days == payment.amount_minor && payment.amount_minor > 10000
5 > 6
1 == 2
'a' == 'b'
(getDevice.age_days > 4000 || getDevice.score > 2.0)
getDevice.trusted ? getDevice.score > 2.0 : getDevice.age_days < 0
getDevice.trusted ? false : getDevice.trusted
getDevice.age_days + 5 < 5
getDevice.age_days - 1 < -1
getDevice.age_days * 2 > 7300
payment.amount_minor / 100 > 10000000000000
(getDevice.age_days - 3) / 2 < -1
getDevice.score > 0.5 && getDevice.score < 0.5000000000000001
getDevice.score < 0.5 && getDevice.score > 0.49999999999999994
getDevice.delta > payment.amount_minor && payment.amount_minor > 10 && getDevice.delta < 5
getDevice.score * 2.0 > 2.0
getDevice.score / 2.0 > 0.5
-getDevice.age_days > 0
double(getDevice.age_days) > 3650.0
payment.amount_minor + 9223372036854775807 > 0
!(getDevice.age_days > 5 || getDevice.age_days <= 5)
true && false
!true
(getDevice.age_days < 3 || getDevice.age_days > 8) && getDevice.age_days > 4 && getDevice.age_days < 7
getDevice.age_days >= 7 && getDevice.age_days <= 7 && getDevice.age_days != 7
"""

POSSIBLE = """
getDevice.age_days > 10 || getDevice.age_days < 5
getDevice.age_days >= 10 && getDevice.age_days <= 10
getDevice.score > 0.5 && getDevice.score < 0.5000001
getDevice.score == 1.0
getDevice.score > 0.5 && getDevice.score <= 0.5000000000000001
getDevice.score < 0.5 && getDevice.score >= 0.49999999999999994
(-getDevice.age_days - 1) / 2 == 0
getDevice.age_days != getBalance.available_minor && getDevice.age_days == 0
getDevice.label != getDevice.kind && getDevice.label == 'phone'
getDevice.label == 'x' || getDevice.label == 'y'
getDevice.label != 'x' && getDevice.label != 'y'
getDevice.label == payment.payee_id
getDevice.label > 'a' && getDevice.label < 'b'
getDevice.kind != 'phone' && getDevice.kind != 'tablet'
getDevice.trusted == (payment.amount_minor > 5)
getDevice.trusted > false
getDevice.trusted ? getDevice.age_days > 5 : false
getDevice.age_days - payment.amount_minor > 5
getDevice.age_days % 7 == 6
payment.amount_minor / (getDevice.age_days + 1) > 5
payment.amount_minor / getDevice.delta > 5
payment.amount_minor + 9223372036854775806 > 0
getDevice.drift * getDevice.drift > 1.0
getDevice.drift + getDevice.drift > 1.7e308
getDevice.delta * getDevice.delta > 4
size(getDevice.label) > 5
getDevice.label.startsWith('x') && getDevice.label.contains('y')
['x', 'y'].exists(p, getDevice.label.startsWith(p))
[1, 2].all(n, getDevice.age_days > n)
dyn(getDevice.age_days) == 5.0
int(getDevice.score * 100.0) > 99
!(getDevice.age_days in [1, 2])
getDevice.age_days in [5000, 5]
getDevice.delta < -9223372036854775807
getDevice.age_days in [getDevice.delta, 5]
{'a': 1}['a'] == getDevice.age_days
getDevice.age_days == 3650
getDevice.age_days == 0
"""


@pytest.mark.parametrize("when", IMPOSSIBLE.strip().splitlines())
def test_is_impossible(when):
    [message] = faults_of_when(when)
    assert message.startswith("the rule can never match")


@pytest.mark.parametrize("when", POSSIBLE.strip().splitlines())
def test_is_possible(when):
    assert faults_of_when(when) == []


def test_so_many_cases_that_they_cannot_be_gone_through_count_as_possible_and_take_no_time():
    started_s = time.perf_counter()
    many = " && ".join(f"(getDevice.age_days > {n} || getDevice.delta > {n} || getDevice.trusted)" for n in range(40))
    assert faults_of_when(many) == []
    assert faults_of_when(f"({many}) == getDevice.trusted") == []
    nested = "getDevice.trusted"
    for n in range(25):
        nested = f"(getDevice.age_days > {n} || getDevice.delta > {n}) && ({nested})" if n < 10 else f"!({nested})"
    assert faults_of_when(nested) == []
    chain = "getDevice.trusted"
    for n in range(28):
        chain = f"getDevice.age_days % 7 == {n} == ({chain})"
    assert faults_of_when(chain) == []
    assert time.perf_counter() - started_s < 5


def test_no_case_is_forgotten_when_there_are_many():
    numbers = ", ".join(map(str, range(1, 80)))
    assert faults_of_when(f"getDevice.age_days in [{numbers}] && getDevice.age_days > 78") == []


def test_a_long_list_of_numbers_is_no_trouble():
    numbers = ", ".join(map(str, range(5000, 5600)))
    [message] = faults_of_when(f"getDevice.age_days in [{numbers}]")
    assert message.startswith("the rule can never match")
