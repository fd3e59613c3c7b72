"""Server programs that tests start themselves, on free ports with folders of their own, and stop by their process ids."""

from __future__ import annotations

import services


def missing(program: str) -> None:
    """Ends the test where the program is not installed: skipped, or failed if `PAYNOW_TEST_SERVICES=required`."""
    services.needs(program)
