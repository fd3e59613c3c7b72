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
    """What all workers may open together: each its pool and the one that hears of new policies; and the one that
    shadow policies read over."""
    return settings.server.workers * (settings.database.connections_max + 1) + bool(settings.policy.shadow)


def check_connections(dsn: str, settings: Settings, origin_of: Callable[[str], str]) -> None:
    """Raises `ConfigurationRefused` if PostgreSQL gives fewer connections than the service may open, and `DatabaseFailed`."""
    with session(dsn, "paynow") as connection, connection.cursor() as cursor:
        cursor.execute(load_queries(folder("sql") / "queries")["connections_given"])
        row = cursor.fetchone()
    needed = connections_of_service(settings)
    if row is None or needed <= row[0]:
        return
    workers = settings.server.workers
    message = (
        f"{workers} worker{'s' if workers > 1 else ''} may open {needed} connections, {settings.database.connections_max} each and one to "
        f"hear of policies, and PostgreSQL gives {row[0]}: lower it or server.workers, or raise max_connections there"
    )
    raise ConfigurationRefused([ConfigurationFault(origin_of("database.connections_max"), "database.connections_max", message)])
