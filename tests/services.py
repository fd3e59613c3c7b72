"""Server programs and privileges that some tests need: without them a test is skipped and says why, or fails where they are required."""

from __future__ import annotations

import os
import shutil

import pytest

REQUIRED = os.environ.get("PAYNOW_TEST_SERVICES") == "required"


def needs(program: str) -> str:
    """The path of a program such as `redis-server`. Without it the test is skipped, or fails if `PAYNOW_TEST_SERVICES=required`."""
    path = shutil.which(program)
    if path is None:
        absent(f"the program {program} is not installed")
    return path


def absent(reason: str) -> None:
    """Ends the test: skipped with the reason, or failed if `PAYNOW_TEST_SERVICES=required`."""
    if REQUIRED:
        pytest.fail(f"PAYNOW_TEST_SERVICES=required, but {reason}")
    pytest.skip(reason)
