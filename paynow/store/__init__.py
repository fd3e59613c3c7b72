"""The wall to PostgreSQL: nothing above knows the driver, its errors or a word of SQL.

`Store` is what the use cases hold. Every method serves one payment; how many of them one statement serves is decided in here.
"""

from paynow.store.store import Store

__all__ = ["Store"]
