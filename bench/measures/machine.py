"""The facts without which a figure says nothing: processors, versions, and how long the disk takes to flush."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from bench.stage import Stage

PACKAGES = ("paynow", "aiohttp", "aiopg", "psycopg2-binary", "orjson", "marshmallow", "fastapi", "uvicorn", "asyncpg", "uvloop", "httptools")
FLUSHES = 200
BLOCK = b"\0" * 8192


def facts(stage: Stage) -> dict[str, Any]:
    """What the report shows of the machine, and of everything that was measured on it."""
    settings = stage.run(
        "postgres",
        "select name, setting || coalesce(unit, '') from pg_settings where name in ('fsync', 'synchronous_commit', 'full_page_writes', "
        "'shared_buffers', 'max_wal_size', 'wal_sync_method') order by name",
    )
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgresql": stage.run("postgres", "show server_version")[0][0],
        "postgresql_settings": dict(settings),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "fsync_ms": round(flush_s(stage.folder) * 1000, 3),
        "load_before": round(os.getloadavg()[0], 2),
    }


def flush_s(folder: Path) -> float:
    """The median time of writing 8 kB and flushing them (`fdatasync`), as PostgreSQL flushes its log."""
    path = folder / "flushes"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        os.write(descriptor, BLOCK * FLUSHES)
        os.fsync(descriptor)
        taken = []
        for block in range(FLUSHES):
            began = time.perf_counter()
            os.pwrite(descriptor, BLOCK, block * len(BLOCK))
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return median(taken)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
