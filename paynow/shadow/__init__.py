"""Policies tried in shadow: they judge what was decided behind the active policy, in a process of their own, off every payment's path."""
