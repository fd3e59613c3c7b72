"""The process that reads along: a program that only its service (`shadow/process.py`) starts, with what it needs on its standard input.

It yields the processors to whatever decides payments, says nothing but why it ended, and ends with its service, however that ends.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from paynow.plugin_api import Field
from paynow.policy import Policy, compile_policy
from paynow.shadow.judging import judge
from paynow.store.shadows import Counted, Following, following

DECISIONS_AT_ONCE = 200
"""Of one turn: a fraction of a second's work, and less than a megabyte of answers."""
LOOK_EVERY_S = 0.5
OUTPUT, ERRORS = 1, 2
"""File descriptors. The service reads the first."""


@dataclass(frozen=True, slots=True)
class Handover:
    """All that the process is given: where the database is, the candidates' texts, and the tools' outputs that they were checked against."""

    dsn: str
    candidates: tuple[str, ...]
    tools: Mapping[str, Mapping[str, Field]]


def follow(handover: Handover) -> None:
    """Reads along for ever. Raises `DatabaseFailed`."""
    candidates = {
        policy.version: policy
        for policy in (compile_policy(text, origin="candidate", tools=handover.tools, run_examples=False) for text in handover.candidates)
    }
    with following(handover.dsn) as session:
        while True:
            if not take_turn(session, candidates, handover.tools):
                time.sleep(LOOK_EVERY_S * random.uniform(0.5, 1))  # others who read along come to be apart


def take_turn(
    session: Following, candidates: Mapping[str, Policy], tools: Mapping[str, Mapping[str, Field]], decisions_max: int = DECISIONS_AT_ONCE
) -> int:
    """Judges the decisions that come next and counts them; how many they were, 0 if there are none or if somebody else has counted meanwhile."""
    readers, decisions = session.next(list(candidates), decisions_max)
    counted = []
    for reader in readers:
        ours = [decision for position, decision in decisions if position > reader.position]
        if ours:
            judged = judge(ours, candidates[reader.version], tools)
            counted.append(Counted(reader, judged.verdicts, judged.rules, decisions[-1][0], judged.decisions, judged.unreadable))
    return len(decisions) if session.count(counted) else 0


def _yield_the_processors() -> None:
    """Runs when nothing else would, as far as the system knows that: every payment comes first, however far this falls behind meanwhile."""
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _end_with_service() -> None:
    """The service never says anything more: what comes is the end of the pipe, when it has stopped or died."""
    sys.stdin.buffer.read(1)
    os._exit(0)


def main() -> None:
    """Until the service ends. What ends it before is told to the service by its name: the text of an error may repeat what nobody should read."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _yield_the_processors()
    to_service = os.dup(OUTPUT)
    os.dup2(ERRORS, OUTPUT)  # what a plugin's module writes is nothing to the service
    handover: Handover = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_service, name="service watch", daemon=True).start()
    try:
        follow(handover)
    except Exception as error:
        os.write(to_service, type(error).__name__.encode())
    sys.exit(1)


if __name__ == "__main__":
    main()
