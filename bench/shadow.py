"""What two policies in shadow cost the payments: times at half of the maximum with them and without, turn by turn, and whether they catch up."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from bench.loads import Crowd, Load, generator
from bench.measures.figures import median_of
from bench.past import CANDIDATE
from bench.servers.rivals import PAYNOW, Rival, at_work, paynow_database
from bench.stage import Stage
from bench.turns import Broken, check_all_accepted, check_audit, check_drained, close_loop
from bench.voice import Voice

SHARE = 0.5
CAUGHT_UP_WITHIN_S = 120.0
LOOK_EVERY_S = 0.5
WITHOUT, WITH_TWO = "without", "with_two"
SHIPPED = "shadow_shipped.toml"
OTHER = "shadow_other.toml"
UNREAD = """select coalesce(max((
    select count(*) from payments p where (p.settled_by, p.payment_id) > (s.read_to, s.read_to_payment) and p.settled_by >= s.read_to
)), 0) from shadow_policies s"""
JUDGED = "select decisions from shadow_policies"


def measure(stage: Stage, *, rounds: int, minutes: float, warmup_s: float, crowd: Crowd, say: Voice) -> dict[str, Any]:
    """`rounds` turns of each kind, of `minutes` in all. Raises `Broken`, also if a decision was not judged or judged twice."""
    database = PAYNOW.database or ""
    stage.make_database(database)
    paynow_database(stage, database, crowd.customers)
    shipped = (stage.folder / "policy.toml").read_text()
    (stage.folder / SHIPPED).write_text(shipped + "\n# in shadow\n")
    (stage.folder / OTHER).write_text(CANDIDATE)
    sides = {WITHOUT: PAYNOW, WITH_TWO: replace(PAYNOW, name=WITH_TWO, environ={"PAYNOW_POLICY__SHADOW": f'["{SHIPPED}", "{OTHER}"]'})}
    maximum = _maximum(stage, crowd, warmup_s)
    before = _begin(stage, sides[WITH_TWO])
    seconds = minutes * 60 / (2 * rounds)
    say(f"the maximum is {maximum:,.0f}/s; offering {maximum * SHARE:,.0f}/s")
    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sides}
    unread = caught_up_s = 0.0
    say.begin("shadow", 2 * rounds)
    for round_number in range(rounds):
        for name in sorted(sides, reverse=round_number % 2 == 1):
            stage.run("postgres", "checkpoint")
            key = f"{stage.folder.name}-{round_number}-{name}"
            with at_work(sides[name], stage) as serving:
                warm = close_loop(Load(serving.port, f"{key}-warm", warmup_s, crowd))
                answers = generator.run(Load(serving.port, key, seconds, crowd, rate=maximum * SHARE, seed=round_number))
                check_all_accepted(PAYNOW, warm, answers)
                if name == WITH_TWO:
                    unread = max(unread, stage.number(database, UNREAD))
                    caught_up_s = max(caught_up_s, _until_caught_up(stage, database))
                check_drained(stage, database)
            times[name].append((answers.p50_ms, answers.p99_ms, answers.p999_ms))
            say.done(f"round {round_number + 1} of {rounds}  {name:<8} p50 {answers.p50_ms:6.1f} ms  p99 {answers.p99_ms:6.1f} ms")
    with at_work(sides[WITH_TWO], stage):
        _until_caught_up(stage, database)
    expected = stage.number(database, PAYNOW.stored or "") - before
    judged = [count for (count,) in stage.run(database, JUDGED)]
    if judged != [expected, expected]:
        raise Broken(f"of {expected} decisions the shadow policies have judged {judged}")
    check_audit(stage, database)
    p50, p99, p999 = ({name: median_of([turn[place] for turn in turns]) or 0.0 for name, turns in times.items()} for place in range(3))
    return {
        "rate": maximum * SHARE,
        **{f"{name}_{figure}_ms": values[name] for figure, values in (("p50", p50), ("p99", p99), ("p999", p999)) for name in sides},
        "p99_ratio": p99[WITH_TWO] / p99[WITHOUT] if p99[WITHOUT] else 0.0,
        "judged": expected,
        "unread_at_most": unread,
        "caught_up_after_s": caught_up_s,
        "audit": "clean",
    }


def _maximum(stage: Stage, crowd: Crowd, warmup_s: float) -> float:
    with at_work(PAYNOW, stage) as serving:
        close_loop(Load(serving.port, "warm", warmup_s, crowd))
        return close_loop(Load(serving.port, "maximum", warmup_s * 2, crowd, seed=2)).accepted_per_s


def _begin(stage: Stage, rival: Rival) -> int:
    """Both policies read along from now on; how many payments there were before."""
    database = rival.database or ""
    with at_work(rival, stage):
        began = time.monotonic()
        while len(stage.run(database, JUDGED)) < 2:
            if time.monotonic() - began > CAUGHT_UP_WITHIN_S:
                raise Broken("the shadow policies did not begin")
            time.sleep(LOOK_EVERY_S)
    return stage.number(database, rival.stored or "")


def _until_caught_up(stage: Stage, database: str) -> float:
    """Seconds until both have judged everything. Raises `Broken`."""
    began = time.monotonic()
    while stage.number(database, UNREAD):
        if time.monotonic() - began > CAUGHT_UP_WITHIN_S:
            raise Broken(f"the shadow policies have not caught up within {CAUGHT_UP_WITHIN_S:.0f} s")
        time.sleep(LOOK_EVERY_S)
    return time.monotonic() - began
