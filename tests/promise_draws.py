"""What is drawn for the stories of payments: which accounts, how much of what they hold, how reservations end. Never depends on an answer."""

from __future__ import annotations

from hypothesis import strategies as st

from promise_model import REVIEWED_PAYEE

CUSTOMERS = ("a", "b")
CURRENCIES = ("USD", "JPY", "BHD")
FIRST_ACCOUNTS = (("a", "USD"), ("a", "JPY"), ("a", "BHD"), ("b", "USD"))
STATE_OF = {"capture": "captured", "release": "released", "expire": "expired"}

any_one = st.integers(0, 2**16)
"""Picks one of what there is by then."""
some = st.lists(any_one, min_size=1, max_size=3)
service = st.integers(0, 1)
accounts = st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from(CURRENCIES))
openings = st.sampled_from([10_000, 10_001, 700, 1, 0])
shares = st.sampled_from([(1, 4), (1, 10), (1, 2), (1, 1), (0, 1), (2, 1)])
"""How much of what is available: a part, all of it, a minor unit, more than there is."""
wishes = st.tuples(accounts, st.sampled_from(["p_1", "p_1", "p_2", REVIEWED_PAYEE]), shares, st.integers(-1, 1))
ways = st.lists(st.sampled_from(sorted(STATE_OF)), min_size=1, max_size=1) | st.permutations([*STATE_OF, *STATE_OF]).map(lambda drawn: drawn[:4])
"""Of ending a reservation: one, or most of them."""
several_wishes = st.lists(wishes, min_size=1, max_size=4) | st.tuples(accounts, st.lists(wishes, min_size=2, max_size=4)).map(
    lambda drawn: [(drawn[0], *wish[1:]) for wish in drawn[1]]
)
"""Of whatever accounts, or all of one."""
