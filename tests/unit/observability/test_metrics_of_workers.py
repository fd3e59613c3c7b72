"""What several workers count is shown as one: totals and quantiles over all, gauges of the living, and a successor counts on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from paynow.observability.sharing import VARIABLE, Shared

COUNTS = """
import sys
from pathlib import Path
from paynow.observability.metrics import Metrics
from paynow.observability.sharing import Shared
metrics = Metrics(Shared(Path(sys.argv[1]), int(sys.argv[2])))
exec(sys.argv[3])
"""
SHOWS = "print(metrics.exposition().decode())"


def worker(folder: Path, number: int, code: str) -> str:
    """A process of its own, as each worker is: prometheus_client keeps where values go per process."""
    done = subprocess.run([sys.executable, "-c", COUNTS, str(folder), str(number), code], capture_output=True, text=True, check=True)
    return done.stdout


def shown(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_totals_and_quantiles_are_over_all_workers(tmp_path) -> None:
    request = "[metrics.request_finished('/api/payments/decide', 'POST', 200, {seconds}) for _ in range({count})]"
    worker(tmp_path, 1, request.format(seconds=0.005, count=90) + "; metrics.payment_decided('allow', False, 0.01)")
    text = worker(tmp_path, 2, request.format(seconds=0.07, count=10) + "; metrics.payment_decided('block', True, 0.01); print(metrics.summary())")
    summary = eval(text)
    assert summary["totalRequests"] == 100
    assert summary["decisions"] == {"allow": 1, "review": 0, "block": 1}
    assert 60 < summary["p95Latency"] <= 80
    assert summary["routes"]["POST /api/payments/decide"]["count"] == 100


def test_gauges_are_of_the_living_each_in_its_own_way(tmp_path) -> None:
    worker(tmp_path, 1, "metrics.pool(8, 3, 1); metrics.breaker_state('getBalance', 'open'); metrics.outbox(9, 2.0)")
    told = shown(worker(tmp_path, 2, f"metrics.pool(4, 2, 0); metrics.breaker_state('getBalance', 'closed'); metrics.outbox(7, 1.0); {SHOWS}"))
    assert told["paynow_pool_open_connections",] == 12
    assert told["paynow_breaker_state", "tool=getBalance"] == 2
    assert told["paynow_outbox_rows",] == 7
    Shared.forget(tmp_path, 1)
    told = shown(worker(tmp_path, 2, SHOWS))
    assert told["paynow_pool_open_connections",] == 4
    assert told["paynow_breaker_state", "tool=getBalance"] == 0


def test_a_successor_counts_on_and_files_do_not_become_more(tmp_path) -> None:
    files = []
    for _ in range(3):
        told = shown(worker(tmp_path, 1, f"metrics.pool(1, 1, 1); metrics.payment_replayed(); {SHOWS}"))
        Shared.forget(tmp_path, 1)
        files.append(len(list(tmp_path.iterdir())))
    assert told["paynow_replays_total",] == 3
    assert told["paynow_worker_starts_total",] == 3
    assert len(set(files)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="what the system tells of processes is read from /proc")
def test_each_workers_process_is_told_apart(tmp_path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as other:
        (tmp_path / "worker_2.pid").write_text(str(other.pid))
        told = shown(worker(tmp_path, 1, SHOWS))
        assert {key[1] for key in told if key[0] == "process_resident_memory_bytes"} == {"worker=1", "worker=2"}
        assert other.stdin is not None
        other.stdin.close()


def alone(code: str, **environ: str) -> str:
    """The same in the process of a service with one worker."""
    program = f"from paynow.observability.metrics import Metrics; metrics = Metrics(); {code}"
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **environ}, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_metric_without_series_is_there_as_in_one_process(tmp_path) -> None:
    names = [{line for line in text.splitlines() if line.startswith("# TYPE paynow")} for text in (alone(SHOWS), worker(tmp_path, 1, SHOWS))]
    assert names[0] == names[1]


def test_one_process_keeps_its_values_in_memory_whatever_the_environment_says(tmp_path) -> None:
    told = shown(alone(f"metrics.payment_replayed(); {SHOWS}", **{VARIABLE: str(tmp_path)}))
    assert told["paynow_replays_total",] == 1
    assert list(tmp_path.iterdir()) == []
