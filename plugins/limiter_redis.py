"""The rate limiter `redis`: token buckets in Redis, exact over all processes that use it, by the clock of its server.

A bucket is one key, which holds the moment (in microseconds) at which it is full again, and expires then. Its name holds no id but a hash under
`LOG_HASH_KEY`, in braces: what belongs to one customer lies in one hash slot of a cluster. `limiter_memory.py` and `sql/functions/20_claim.sql` do
the same sums.
"""

import asyncio
import hashlib
import hmac
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from paynow.plugin_api import Grant, Limit, RateLimiter, RateLimiterMaker, hookimpl
from paynow.plugin_redis import Client, NoScriptError, RedisError, check_url, connect, forget_nodes

S = 1_000_000
LANES = 2
BATCH_MAX = 128
WAITING_MAX = 10_000
CLOSED = "the limiter is closed"
TIMEOUTS_MAX = 2
"""A batch may take so many times the time limit: once to connect, once for the answer. Who comes meanwhile waits for it, and for its own."""
READING_S = 0.02
CLIENT_TIMEOUTS = 10
"""The client itself waits for so many times the time limit: it does not know whether it was held up."""

SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, capacity = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local allowed = full_at + interval - now <= capacity
if allowed then
    full_at = full_at + interval
    redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
end
return {allowed and 1 or 0, full_at - now}
"""
SCRIPT_SHA1 = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

Bucket = tuple[str, int, int]
"""Its key, the microseconds between tokens, and those until an empty one is full."""
Taken = tuple[int, int]
"""1 if there was a token, else 0; and the microseconds until the bucket is full."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    bucket: Bucket
    answer: asyncio.Future[Taken]


class RedisLimiter:
    """Takes that come while both lanes are busy leave together, in one round trip, on the next free one.

    Where Redis is gone or hangs, no take waits for longer than four times `timeout_s` and what reading takes: a batch before it, and its own.
    """

    name = "redis"
    shared = True
    inside_claim = False

    def __init__(self, client: Client, *, timeout_s: float, hash_key: bytes) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._hash_key = hash_key
        self._waiting: deque[_Waiting] = deque()
        self._free = LANES
        self._in_trouble = False
        self._lanes: set[asyncio.Task[None]] = set()

    async def take(self, kind: str, subject: str, limit: Limit) -> Grant:
        interval = max(1, round(S / limit.per_second))
        capacity = limit.burst * interval
        allowed, ahead = await self._taken((self._key(kind, subject), interval, capacity))
        left = capacity - ahead
        return Grant(allowed == 1, max(0, left // interval), max(0, interval - left) / S, ahead / S)

    async def close(self) -> None:
        """Whoever still waits gets a `ConnectionError`."""
        for lane in list(self._lanes):
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        self._fail((), ConnectionError(CLOSED))  # behind a lane that had not begun
        await self._client.aclose()

    def _key(self, kind: str, subject: str) -> str:
        return f"paynow:limit:{{{hmac.digest(self._hash_key, subject.encode(), 'sha256')[:16].hex()}}}:{kind}"

    def _taken(self, bucket: Bucket) -> asyncio.Future[Taken]:
        if len(self._waiting) >= WAITING_MAX:
            raise ConnectionError("too many wait for Redis")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(bucket, loop.create_future())
        self._waiting.append(waiting)
        if self._free:
            self._free -= 1
            lane = loop.create_task(self._serve())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        return waiting.answer

    async def _serve(self) -> None:
        """One lane: batch after batch until nobody waits."""
        try:
            while self._waiting:
                await self._serve_batch([self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))])
        finally:
            self._free += 1

    async def _serve_batch(self, batch: list[_Waiting]) -> None:
        try:
            answers = await self._in_time(self._run([waiting.bucket for waiting in batch]))
        except asyncio.CancelledError:
            self._fail(batch, ConnectionError(CLOSED))
            raise
        except Exception as error:
            self._fail(batch, error)
            self._in_trouble = True
            return
        for waiting, answer in zip(batch, answers, strict=True):
            _tell(waiting, answer)
        self._in_trouble = any(isinstance(answer, RedisError) for answer in answers)

    async def _in_time(self, work: Coroutine[Any, Any, list[Taken | Exception]]) -> list[Taken | Exception]:
        """Its result. Raises `TimeoutError` if there is none in time, and what it raises.

        Where this process itself was held up, the answer may have arrived long ago: it gets a little more time to be read.
        """
        running = asyncio.create_task(work)
        try:
            for seconds in (TIMEOUTS_MAX * self._timeout_s, READING_S):
                if (await asyncio.wait([running], timeout=seconds))[0]:
                    return running.result()
        finally:
            running.cancel()
            await asyncio.wait([running])
        raise TimeoutError

    async def _run(self, buckets: Sequence[Bucket]) -> list[Taken | Exception]:
        if self._in_trouble:
            await forget_nodes(self._client)
        answers = await self._call("EVALSHA", SCRIPT_SHA1, buckets)
        strange = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if strange:  # a server that has just started, or another one: the script is told once more
            told = await self._call("EVAL", SCRIPT, [buckets[place] for place in strange])
            for place, answer in zip(strange, told, strict=True):
                answers[place] = answer
        return answers

    async def _call(self, command: str, script: str, buckets: Sequence[Bucket]) -> list[Taken | Exception]:
        pipeline = self._client.pipeline(transaction=False)
        for key, interval, capacity in buckets:
            pipeline.execute_command(command, script, 1, key, interval, capacity)
        return await pipeline.execute(raise_on_error=False)

    def _fail(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """Who waits behind a batch that failed would only fail later."""
        for waiting in (*batch, *self._waiting):
            _tell(waiting, error)
        self._waiting.clear()


def _tell(waiting: _Waiting, answer: Taken | Exception) -> None:
    if waiting.answer.done():
        return
    if isinstance(answer, Exception):
        waiting.answer.set_exception(answer)
    else:
        waiting.answer.set_result(answer)


@hookimpl
def paynow_register_rate_limiters(settings) -> Sequence[RateLimiterMaker]:
    url, timeout_s = settings.secrets.redis_url, settings.rate_limit.redis_timeout_ms / 1000
    hash_key = (settings.secrets.log_hash_key or "").encode()

    def make(_take: Callable[[str, str, Limit], Awaitable[Grant]]) -> RateLimiter:
        return RedisLimiter(connect(url, connections=LANES, timeout_s=CLIENT_TIMEOUTS * timeout_s), timeout_s=timeout_s, hash_key=hash_key)

    check_url(url)
    return [RateLimiterMaker(RedisLimiter.name, make, shared=RedisLimiter.shared)]
