"""The closed lists of words about cases: each is one of the database's types too."""

STATUSES = ("open", "claimed", "approved", "declined")
LABELS = ("confirmed_fraud", "false_positive", "unclear")
"""What a case turned out to be about, as far as anybody knows: the backtest measures policies against it."""
