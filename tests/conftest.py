"""What every test may ask for, and how hypothesis behaves here."""

from __future__ import annotations

import os

import hypothesis

from database import database, database_numbers, empty_database, own_server, pgbouncer, poolers_stopped, postgres_server, template_database
from logged import logged
from servers.kafka import kafka_server
from servers.rabbitmq import rabbitmq_server
from servers.redis import own_redis_cluster, redis_cluster, redis_server, session_redis, session_redis_cluster

__all__ = [
    "database",
    "database_numbers",
    "empty_database",
    "kafka_server",
    "logged",
    "own_redis_cluster",
    "own_server",
    "pgbouncer",
    "poolers_stopped",
    "postgres_server",
    "rabbitmq_server",
    "redis_cluster",
    "redis_server",
    "session_redis",
    "session_redis_cluster",
    "template_database",
]

hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")
