"""The comparison: every rival once a round, round after round, so that a machine's moods meet all of them. Medians are what counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from bench.loads import Crowd, Load, generator, pgbench
from bench.measures.figures import median_of
from bench.processes import DidNotServe
from bench.servers.rivals import PAYNOW, SERVERS, UNBATCHED, Rival, at_work
from bench.stage import Stage
from bench.turns import Broken, Figures, check_audit, check_drained, close_loop, pgbench_turn, server_turn
from bench.voice import Voice

PGBENCH = "pgbench"
PGBENCH_TITLE = f"pgbench simple-update, {pgbench.CLIENTS} clients"
OPEN_SHARES = (0.25, 0.5, 0.75)
OPEN_REPEATS_MAX = 3
UNBATCHED_MAX = 1.1
"""Decisions in a statement: each has its own, and a few are under way when the counting begins and ends."""


def compare(stage: Stage, *, rounds: int, seconds: float, warmup_s: float, crowd: Crowd, say: Voice, only: Sequence[str] = ()) -> dict[str, Any]:
    """The rounds of all rivals (or of `only` those), as they are kept in the results."""
    turns: dict[str, list[Figures]] = {}
    skipped: dict[str, str] = {}
    servers = [rival for rival in SERVERS if not only or rival.name in only]
    for rival in servers:
        _prepare(stage, rival, crowd, say)
    names = [rival.name for rival in servers]
    if not only or PGBENCH in only:
        names += _prepare_pgbench(stage, skipped, say)
    say.begin("rounds", rounds * len(names))
    by_name = {rival.name: rival for rival in servers}
    for round_number in range(rounds):
        # Each round begins with another one: whoever comes after a heavy one should not always be the same.
        for name in names[round_number % len(names) :] + names[: round_number % len(names)]:
            if name in skipped:
                continue
            try:
                found = (
                    pgbench_turn(stage, warmup_s=warmup_s, seconds=seconds)
                    if name == PGBENCH
                    else server_turn(stage, by_name[name], key=f"r{round_number}", warmup_s=warmup_s, seconds=seconds, crowd=crowd)
                )
            except DidNotServe as error:
                skipped[name] = str(error)
                say.less(rounds - round_number)
                say(f"{name} does not serve here and is left out: {str(error).splitlines()[-1]}")
                continue
            if name == UNBATCHED.name:
                check_unbatched(found)
            turns.setdefault(name, []).append(found)
            say.done(f"round {round_number + 1} of {rounds}  {name:<10} {found.decisions_per_s:8,.0f}/s  p99 {found.p99_ms:6.1f} ms")
    for rival in servers:
        if rival.counts and rival.name in turns:
            check_audit(stage, rival.database or "")
            say(f"audit of {rival.name}: clean")
    titles = {**{rival.name: rival.title for rival in servers}, PGBENCH: PGBENCH_TITLE}
    order = [name for name in (*by_name, PGBENCH) if name in turns]
    return {
        "rounds": rounds,
        "seconds": seconds,
        "warmup_s": warmup_s,
        "connections": Load.__dataclass_fields__["connections"].default,
        "customers": crowd.customers,
        "skipped": skipped,
        "rivals": {
            name: {"title": titles[name], "median": medians(turns[name]), "rounds": [one.document() for one in turns[name]]} for name in order
        },
    }


def open_loop(stage: Stage, *, maximum: float, seconds: float, repeats: int, warmup_s: float, crowd: Crowd, say: Voice) -> list[dict[str, Any]]:
    """PayNow's times at fixed rates, shares of its maximum: the median of some runs, each on a process of its own."""
    found: dict[float, list[dict[str, Any]]] = {}
    repeats = min(repeats, OPEN_REPEATS_MAX)
    say.begin("open loop", repeats * len(OPEN_SHARES))
    for turn in range(repeats):
        for share in OPEN_SHARES:
            key = f"open-{turn}-{share}"
            stage.run("postgres", "checkpoint")
            with at_work(PAYNOW, stage) as serving:
                close_loop(Load(serving.port, f"{key}-warm", warmup_s, crowd))
                answers = generator.run(Load(serving.port, key, seconds, crowd, rate=maximum * share))
                check_drained(stage, PAYNOW.database or "")
            found.setdefault(share, []).append(answers.document())
            say.done(
                f"open loop at {share:.0%}: p99 {answers.p99_ms:.1f} ms, p99.9 {answers.p999_ms:.1f} ms, itself late {answers.late_p99_ms:.1f} ms"
            )
    check_audit(stage, PAYNOW.database or "")
    return [{"share": share, "rate": maximum * share, **_medians(documents)} for share, documents in found.items()]


def check_unbatched(found: Figures) -> None:
    """Nothing may have shared a statement. Raises `Broken`."""
    if max(found.batch_claim or 0, found.batch_settle or 0) > UNBATCHED_MAX:
        raise Broken(f"payments shared statements although bench/servers/unbatched.py forbids it: {found.batch_claim}, {found.batch_settle}")


def medians(turns: Sequence[Figures]) -> dict[str, float | None]:
    """Each figure's median over the rounds."""
    return {field.name: median_of([getattr(turn, field.name) for turn in turns]) for field in fields(Figures)}


def _medians(documents: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    keys = [key for key, value in documents[0].items() if isinstance(value, (int, float))]
    return {key: median_of([document[key] for document in documents]) for key in keys}


def _prepare(stage: Stage, rival: Rival, crowd: Crowd, say: Voice) -> None:
    if rival.database and rival.prepare:
        say(f"preparing {rival.name}: {crowd.customers:,} accounts")
        stage.make_database(rival.database)
        rival.prepare(stage, rival.database, crowd.customers)
        stage.run(rival.database, "vacuum analyze")


def _prepare_pgbench(stage: Stage, skipped: dict[str, str], say: Voice) -> list[str]:
    if pgbench.program() is None:
        skipped[PGBENCH] = "pgbench was not found beside PostgreSQL's programs"
        return []
    say("preparing pgbench")
    pgbench.prepare(stage)
    return [PGBENCH]
