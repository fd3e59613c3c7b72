"""How plugins reach Redis, a server or a cluster: by a client that waits no longer than it is told, and never tries again by itself.

Needs the extra `redis`; who imports this without it is told so.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

try:
    from redis import RedisError
    from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
    from redis.asyncio.connection import parse_url
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import NoScriptError
except ImportError:
    raise ImportError("Redis needs a package that is not installed: pip install 'paynow[redis]'") from None

__all__ = ["Client", "NoScriptError", "RedisError", "check_url", "connect", "forget_nodes"]

Client = Redis | RedisCluster

EXPECTED = "redis://user:password@host:6379/0, rediss:// for TLS, redis+cluster:// or rediss+cluster:// for any node of a cluster"


def check_url(url: str | None) -> None:
    """Raises `ValueError` if the URL (the secret `REDIS_URL`) is not set or not usable; the message does not repeat it."""
    if url is None:
        raise ValueError("REDIS_URL is not set: it says where Redis is, and as whom to connect")
    plain, is_cluster = _plain(url)
    try:
        parts = parse_url(plain)
    except (TypeError, ValueError):
        raise ValueError(f"REDIS_URL is not usable: expected {EXPECTED}") from None
    if not parts.get("host"):
        raise ValueError(f"REDIS_URL is not usable: expected {EXPECTED}")
    if is_cluster and parts.get("db"):
        raise ValueError("REDIS_URL names a database, but a cluster has only number 0")


def connect(url: str | None, *, connections: int, timeout_s: float) -> Client:
    """A client that connects when it is first used, with so many connections at most (to each node of a cluster).

    `timeout_s` is for a connection, and again for an answer; options in the URL's query outweigh it. Raises `ValueError` as `check_url`.
    """
    check_url(url)
    assert url is not None
    plain, is_cluster = _plain(url)
    # Version 2 of the protocol needs no greeting and is spoken by every server and proxy.
    options: dict[str, Any] = {
        "socket_connect_timeout": timeout_s,
        "socket_timeout": timeout_s,
        "max_connections": connections,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if is_cluster:
        return RedisCluster.from_url(plain, require_full_coverage=False, **options)
    return Redis.from_pool(BlockingConnectionPool.from_url(plain, timeout=timeout_s, **options))


async def forget_nodes(client: Client) -> None:
    """After trouble: a cluster may look otherwise now, so its nodes are asked for again at the next call."""
    if isinstance(client, RedisCluster):
        with suppress(RedisError, OSError, TimeoutError):
            await client.aclose()


def _plain(url: str) -> tuple[str, bool]:
    scheme, separator, rest = url.partition("://")
    plain = scheme.removesuffix("+cluster")
    return f"{plain}{separator}{rest}", plain != scheme
