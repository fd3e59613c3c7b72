"""The same entry put on a list by two at once: both are told the entry that stands there in the end."""

from __future__ import annotations

import asyncio
from contextlib import closing

import psycopg2
import pytest

from database import execute
from paynow.store import Store
from waiting import meanwhile

PUT = "insert into lists (kind, subject, listing, reason, author) values ('payee', 'p_1', 'block', %s, 'first')"
RENEW = "update lists set reason = %s"
WAITS = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@pytest.mark.parametrize("known", [False, True], ids=["new", "renewed"])
async def test_who_puts_what_another_is_just_putting_is_told_the_entry_as_it_is_then(database: str, known: bool) -> None:
    if known:
        execute(database, PUT, "an old reason")
    store = Store(database)
    try:
        with closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
            cursor.execute(RENEW if known else PUT, ("seen with a mule",))
            put = asyncio.create_task(store.lists.put("payee", "p_1", "block", reason="seen with a mule", expires_at=None, author="second"))
            await meanwhile(lambda: execute(database, WAITS))
            other.commit()
            entry = await put
        assert (entry.reason, entry.author) == ("seen with a mule", "first"), "the same again changes nothing"
    finally:
        await store.close()
