"""The event sink `redis_streams`: events in a Redis stream of bounded length, in the order in which the relay hands them over."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from paynow.plugin_api import EventSink, hookimpl
from paynow.plugin_redis import Client, connect, forget_nodes

CONNECTIONS_MAX = 4
SCRIPT = """
for first = 2, #ARGV, 4 do
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*',
        'id', ARGV[first], 'type', ARGV[first + 1], 'partitionkey', ARGV[first + 2], 'event', ARGV[first + 3])
end
"""
"""A batch is one script: a failure adds nothing behind the event that failed. Commands of a pipeline would go on, and the batch that comes again
would then bring that event behind those that should follow it."""


class RedisStreamsSink:
    """Adds each event with its id, type, partition key and JSON. Whatever Redis answers is trouble that passes: it refuses no single event."""

    name = "redis_streams"

    def __init__(self, client: Client, *, stream: str, length_max: int) -> None:
        self._client = client
        self._stream = stream
        self._length_max = length_max

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        fields = [field for event in events for field in (event["id"], event["type"], event["partitionkey"], orjson.dumps(event))]
        try:
            await self._client.execute_command("EVAL", SCRIPT, 1, self._stream, self._length_max, *fields)
        except Exception:
            await forget_nodes(self._client)
            raise

    async def close(self) -> None:
        await self._client.aclose()


@hookimpl
def paynow_register_event_sinks(settings) -> Sequence[EventSink]:
    url, own = settings.secrets.redis_url, settings.events.redis_streams
    client = connect(url, connections=CONNECTIONS_MAX, timeout_s=own.timeout_ms / 1000)
    return [RedisStreamsSink(client, stream=own.stream, length_max=own.length_max)]
