"""The configuration: defaults, a file, the environment; every value knows where it comes from."""

from paynow.settings.model import (
    AgentSettings,
    CaseSettings,
    DatabaseSettings,
    EventSettings,
    IdempotencySettings,
    LoggingSettings,
    PluginSettings,
    PolicyGuardSettings,
    PolicySettings,
    RateLimitSettings,
    ReservationSettings,
    Secrets,
    ServerSettings,
    Settings,
    ToolSettings,
)

__all__ = [
    "AgentSettings",
    "CaseSettings",
    "DatabaseSettings",
    "EventSettings",
    "IdempotencySettings",
    "LoggingSettings",
    "PluginSettings",
    "PolicyGuardSettings",
    "PolicySettings",
    "RateLimitSettings",
    "ReservationSettings",
    "Secrets",
    "ServerSettings",
    "Settings",
    "ToolSettings",
]
