"""The rivals, each a server in a process of its own (`rivals.py` lists them)."""
