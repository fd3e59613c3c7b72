"""Sight: log lines, their redaction, and metrics. Knows the settings and the errors, and nothing of payments, tools or HTTP."""
