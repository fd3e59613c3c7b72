"""What can be said of the settings of traces before any is made. The SDK is looked for, and not loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec

from paynow.settings.model import Settings

EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
SDK = "opentelemetry.sdk.trace"

_HEADER = re.compile(r"\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+\s*=[^,]*")


def telemetry_faults(settings: Settings) -> Iterator[tuple[str, str]]:
    """What stops a start with traces: each time the setting or secret, and what is wrong with it."""
    if settings.telemetry.traces == "off":
        return
    if not (_there(EXPORTER) and _there(SDK)):
        yield "telemetry.traces", "otlp needs packages that are not installed: pip install 'paynow[otel]'"
    headers = settings.secrets.otel_exporter_otlp_headers
    if headers and not all(map(_HEADER.fullmatch, headers.split(","))):
        yield "OTEL_EXPORTER_OTLP_HEADERS", "expected headers like name=value,other=value"


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
