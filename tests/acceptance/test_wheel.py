"""The wheel, in an empty environment and an empty folder, decides a payment on its embedded database."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import aiohttp

from database import server_folder
from service import API_KEY, body
from waiting import eventually

ROOT = Path(__file__).parents[2]
SHIPPED = ("paynow", "plugins", "config", "sql", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")


def built_wheel(folder: Path) -> Path:
    source = folder / "source"
    source.mkdir()
    for name in SHIPPED:
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, source / name)
    subprocess.run([sys.executable, "-m", "build", "--wheel", "-o", str(folder), str(source)], check=True, capture_output=True, timeout=300)
    return next(folder.glob("*.whl"))


async def test_a_wheel_in_an_empty_folder_decides_a_payment() -> None:
    with server_folder() as folder:
        wheel = built_wheel(folder)
        venv.create(folder / "venv", with_pip=True)
        subprocess.run([folder / "venv/bin/python", "-m", "pip", "install", "--quiet", str(wheel)], check=True, timeout=300)
        empty = folder / "empty"
        empty.mkdir()
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PAYNOW_", "DATABASE_URL"))}
        log = (folder / "log").open("w+")
        process = subprocess.Popen(
            [folder / "venv/bin/paynow", "serve", "--port", "0"],
            cwd=empty,
            env={**environ, "API_KEY": API_KEY, "LOG_HASH_KEY": "the-hash-key-of-the-tests"},
            stdout=log,
            stderr=log,
        )
        try:

            def port() -> int | None:
                assert process.poll() is None, (folder / "log").read_text()
                lines = (folder / "log").read_text().splitlines()
                return next((json.loads(line)["port"] for line in lines if '"event":"serving"' in line), None)

            url = f"http://127.0.0.1:{eventually(port, within_s=60)}"
            async with (
                aiohttp.ClientSession(headers={"X-API-Key": API_KEY}) as client,
                client.post(f"{url}/api/payments/decide", json=body("c_unknown")) as response,
            ):
                assert response.status == 200
                assert (await response.json())["decision"] == "block"
        finally:
            process.terminate()
            assert process.wait(timeout=30) == 0
            log.close()
