"""A policy in shadow, as a risk team meets it: it decides nothing, judges everything, and its figures are in the metrics and in a report."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from pathlib import Path

import pytest

from commands import paynow
from database import execute
from service import UNLIMITED, RunningService, body, open_account, running
from waiting import eventually, eventually_async

STRICT = """[[rule]]
id = "from_a_hundred"
when = 'payment.amount_minor >= minor("100.00", "USD")'
currency = "USD"
then = "review"
message = "A hundred and more"
"""


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    file = tmp_path / "strict.toml"
    file.write_text(STRICT, encoding="utf-8")
    return file


def watched(candidate: Path, **more: str) -> dict[str, str]:
    return {**UNLIMITED, "PAYNOW_POLICY__SHADOW": f'["{candidate}"]', **more}


async def decide(service: RunningService, amounts: list[str], prefix: str = "k") -> list[str]:
    verdicts = []
    async with service.client() as client:
        for number, amount in enumerate(amounts):
            async with client.post("/api/payments/decide", json=body("c_1", amount, f"{prefix}-{number}")) as answer:
                verdicts.append((await answer.json())["decision"])
    return verdicts


async def shown(service: RunningService) -> dict[str, float]:
    """The metrics of the shadow policy, by what is between the braces."""
    async with service.client() as client, client.get("/metrics") as answer:
        text = await answer.text()
    return {f"{name} {labels}": float(value) for name, labels, value in re.findall(r"^(paynow_shadow_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE)}


def reports(tmp_path: Path, dsn: str, *arguments: str) -> list[dict]:
    return paynow(tmp_path, dsn, "policy", "shadow-report", "--json", *arguments).json()


async def test_it_decides_nothing_and_its_verdicts_are_counted_with_their_money(database: str, tmp_path: Path, candidate: Path) -> None:
    open_account(database, "c_1", 1_000_000)
    with running(database, tmp_path, watched(candidate)) as service:
        assert await decide(service, ["1.00", "100.00", "250.00", "99999.00"]) == ["allow", "allow", "allow", "block"]
        version = hashlib.sha256(STRICT.encode()).hexdigest()[:32]
        expected = {
            f'paynow_shadow_decisions candidate="{version}",judged="allow",recorded="allow"': 1.0,
            f'paynow_shadow_decisions candidate="{version}",judged="review",recorded="allow"': 2.0,
            f'paynow_shadow_decisions candidate="{version}",judged="review",recorded="block"': 1.0,
            f'paynow_shadow_amount_minor candidate="{version}",currency="USD",judged="allow",recorded="allow"': 100.0,
            f'paynow_shadow_amount_minor candidate="{version}",currency="USD",judged="review",recorded="allow"': 35_000.0,
            f'paynow_shadow_amount_minor candidate="{version}",currency="USD",judged="review",recorded="block"': 9_999_900.0,
            f'paynow_shadow_behind_seconds candidate="{version}"': 0.0,
        }

        async def all_counted() -> bool:
            return await shown(service) == expected

        await eventually_async(all_counted, within_s=60)
        (report,) = reports(tmp_path, database)
        assert (report["version"], report["decisions"], report["changed"], report["behindSeconds"]) == (version, 4, 3, 0.0)
        assert {(row["recorded"], row["candidate"]): row["decisions"] for row in report["matrix"] if row["decisions"]} == {
            ("allow", "allow"): 1,
            ("allow", "review"): 2,
            ("block", "review"): 1,
        }
        assert report["rules"] == [{"id": "from_a_hundred", "fired": 3, "unknown": 0}]
        (active,) = execute(database, "select version from policies where active")[0]
        assert reports(tmp_path, database, version, "--against", active)[0]["decisions"] == 4
        assert reports(tmp_path, database, version, "--against", "0123456789abcdef")[0]["decisions"] == 0
        told = paynow(tmp_path, database, "policy", "shadow-report")
        assert (told.code, told.err) == (0, "")
        assert "4 decisions, 3 would change" in told.out
        assert re.search(r"allow +review +changes +2 +- +350\.00 USD \(2\)", told.out)


async def test_its_process_is_replaced_when_it_dies_and_nothing_is_counted_twice(database: str, tmp_path: Path, candidate: Path) -> None:
    open_account(database, "c_1", 1_000_000)
    with running(database, tmp_path, watched(candidate)) as service:
        await decide(service, ["1.00"] * 5)
        eventually(lambda: reports(tmp_path, database)[0]["decisions"] == 5, within_s=60)
        for pid in followers(service):
            os.kill(pid, signal.SIGKILL)
        await decide(service, ["1.00"] * 5, "later")
        eventually(lambda: reports(tmp_path, database)[0]["decisions"] == 10, within_s=60)
        assert service.lines("the process of the shadow policies ended, another takes its place")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_its_process_ends_with_the_service(database: str, tmp_path: Path, candidate: Path, ending: signal.Signals) -> None:
    with running(database, tmp_path, watched(candidate)) as service:
        (pid,) = eventually(lambda: followers(service), within_s=60)
        service.process.send_signal(ending)
        service.process.wait(timeout=30)
        eventually(lambda: not Path(f"/proc/{pid}").exists())


async def test_of_several_workers_one_lets_it_read_along(database: str, tmp_path: Path, candidate: Path) -> None:
    open_account(database, "c_1", 1_000_000)
    with running(database, tmp_path, watched(candidate), arguments=("--workers", "2")) as service:
        await decide(service, ["1.00"] * 10)
        eventually(lambda: reports(tmp_path, database)[0]["decisions"] == 10, within_s=60)
        assert len(followers(service)) == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (STRICT.replace("payment.amount_minor", "payment.amount_major"), "strict.toml:3: "),
        (STRICT + '[[example]]\npayment = { amount_minor = 5, currency = "USD" }\nexpect = "block"\n', "strict.toml:"),
    ],
)
def test_one_that_is_wrong_stops_the_start_with_its_line(tmp_path: Path, candidate: Path, text: str, fault: str) -> None:
    candidate.write_text(text, encoding="utf-8")
    ended = paynow(tmp_path, None, "config", "check", **watched(candidate))
    assert ended.code == 2
    assert fault in ended.err


def test_the_same_policy_in_two_files_is_refused(tmp_path: Path, candidate: Path) -> None:
    again = tmp_path / "again.toml"
    again.write_text(STRICT, encoding="utf-8")
    ended = paynow(tmp_path, None, "config", "check", PAYNOW_POLICY__SHADOW=json.dumps([str(candidate), str(again)]))
    assert ended.code == 2
    assert "two of the files hold the same policy" in ended.err


def test_a_version_that_never_judged_is_told_as_such(database: str, tmp_path: Path) -> None:
    ended = paynow(tmp_path, database, "policy", "shadow-report", "0123456789abcdef")
    assert ended.code == 1
    assert "no policy of that version" in ended.err
    assert paynow(tmp_path, database, "policy", "shadow-report").out.startswith("no policy judges in shadow yet")


def followers(service: RunningService) -> list[int]:
    """The processes that read along for a service, or for its workers."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if "paynow.shadow.follower" in (place / "cmdline").read_text() and _stems_from(int(place.name), service.process.pid):
                found.append(int(place.name))
        except OSError:
            continue
    return found


def _stems_from(pid: int, ancestor: int) -> bool:
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        if pid == ancestor:
            return True
    return False
