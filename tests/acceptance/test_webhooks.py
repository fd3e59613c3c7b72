"""A webhook from the settings to its receiver, through a relay's process: an outage, a receiver that wants no more, and its return."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from standardwebhooks.webhooks import Webhook
from test_relays import WRITE, relay

from commands import paynow
from database import execute
from waiting import eventually
from webhook_receiver import OTHER_SECRET, SECRET

ROOT = Path(__file__).parents[2]

CONFIG = """
[events]
sinks = ["webhook_shop"]
[events.webhooks.shop]
url = "{url}?token=hidden"
allow_private = true
"""


class Shop(ThreadingHTTPServer):
    """Answers with `status`, and keeps what it took and verified."""

    status = 200
    statuses: list[int]
    taken: list[str]


class Hook(BaseHTTPRequestHandler):
    server: Shop

    def do_POST(self) -> None:
        event = Webhook(SECRET).verify(self.rfile.read(int(self.headers["content-length"])), dict(self.headers))
        status = self.server.status
        self.server.statuses.append(status)
        if status == 200:
            self.server.taken.append(event["id"])
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def shop() -> Iterator[Shop]:
    with Shop(("127.0.0.1", 0), Hook) as server:
        server.statuses, server.taken = [], []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_a_receiver_that_fails_then_wants_no_more_gets_all_events_when_it_is_enabled(database: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)

    def state() -> str:
        (found,) = paynow(tmp_path, database, "events", "sinks", "--json").json()
        return found["state"]

    with shop() as receiver:
        (tmp_path / "paynow.toml").write_text(CONFIG.format(url=f"http://127.0.0.1:{receiver.server_port}/hook"))
        with relay(tmp_path, database):
            eventually(lambda: execute(database, "select count(*) from event_sinks") == [(1,)])
            receiver.status = 500
            execute(database, WRITE, 1, 5)
            eventually(lambda: 500 in receiver.statuses)
            receiver.status = 410
            eventually(lambda: 410 in receiver.statuses)
            eventually(lambda: state() == "disabled")
            receiver.status = 200
            assert receiver.taken == []
            assert paynow(tmp_path, database, "events", "enable", "webhook_shop").code == 0
            eventually(lambda: len(set(receiver.taken)) == 5)
        events = {str(event_id) for (event_id,) in execute(database, "select event_id from event_log")}
        assert set(receiver.taken) == events
    log = "".join(file.read_text() for file in tmp_path.glob("log_*"))
    assert "hidden" not in log
    assert SECRET not in log
    shown = paynow(tmp_path, database, "config", "show", "--config", "paynow.toml", "--json")
    assert json.loads(shown.out)
    assert "hidden" not in shown.out


async def test_the_documented_receiver_verifies_knows_repeats_and_keeps_order(monkeypatch, capsys) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    (source,) = re.findall(r"^```python\n(.+?)^```$", (ROOT / "docs" / "webhooks.md").read_text(), re.MULTILINE | re.DOTALL)
    receiver: dict[str, Any] = {"__name__": "receiver"}
    exec(source, receiver)

    async def post(event: dict[str, Any], secret: str = SECRET) -> int:
        body, now = json.dumps(event), datetime.now(UTC)
        headers = {"webhook-id": event["id"], "webhook-timestamp": str(int(now.timestamp()))}
        headers["webhook-signature"] = Webhook(secret).sign(event["id"], now, body)
        async with client.post("/paynow", data=body, headers=headers) as answer:
            return answer.status

    first, second, third = ({"id": str(n), "partitionkey": "c", "sequence": f"{n:019d}", "type": "t", "data": n} for n in (1, 2, 3))
    async with TestClient(TestServer(receiver["application"])) as client:
        assert [await post(event) for event in (first, third, first, second)] == [204] * 4
        assert await post(first, OTHER_SECRET) == 401
    assert capsys.readouterr().out == "t 1\nt 3\n"
