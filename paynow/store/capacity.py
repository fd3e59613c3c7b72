"""Whether PostgreSQL has room for the connections that the settings allow: asked at the start, not found out under load."""

from __future__ import annotations

from collections.abc import Callable

from paynow.errors import ConfigurationFault, ConfigurationRefused
from paynow.resources import folder
from paynow.settings import Settings
from paynow.store.queries import load_queries
from paynow.store.session import session

COMMANDS = 10
"""Connections that are left beside the service's own where PayNow sets the limit: for the commands, and for who looks at the database."""


def connections_of_service(settings: Settings) -> int:
    """What all workers may open together: each its pool and the one that hears of new policies; and the one that shadow policies read over. Behind a
    pooler the pools are the pooler's affair: what counts is what goes past it."""
    pool = 0 if settings.database.pooler == "transaction" else settings.database.connections_max
    return settings.server.workers * (pool + 1) + bool(settings.policy.shadow)


def check_connections(dsn: str, settings: Settings, origin_of: Callable[[str], str]) -> None:
    """Raises `ConfigurationRefused` if PostgreSQL gives fewer connections than the service may open, and `DatabaseFailed`."""
    with session(dsn, "paynow") as connection, connection.cursor() as cursor:
        cursor.execute(load_queries(folder("sql") / "queries")["connections_given"])
        row = cursor.fetchone()
    needed = connections_of_service(settings)
    if row is None or needed <= row[0]:
        return
    workers, pooled = settings.server.workers, settings.database.pooler == "transaction"
    each = "past the pooler, each " if pooled else f"{settings.database.connections_max} each and "
    key, lower = ("server.workers", "lower it") if pooled else ("database.connections_max", "lower it or server.workers")
    message = (
        f"{workers} worker{'s' if workers > 1 else ''} may open {needed} connections, {each}one to hear of policies, "
        f"and PostgreSQL gives {row[0]}: {lower}, or raise max_connections there"
    )
    raise ConfigurationRefused([ConfigurationFault(origin_of(key), key, message)])
