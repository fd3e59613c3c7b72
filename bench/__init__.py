"""How fast PayNow is, against what a team would otherwise pick: `make bench`. What is measured and why stands in docs/bench.md.

servers/    the rivals: PayNow, the floor, PayNow without batching, the same service with FastAPI and asyncpg, pgbench
loads/      what they are asked: wrk, or a generator of our own that can keep a fixed rate
measures/   what is read meanwhile: processor time, memory, PostgreSQL's counters, PayNow's metrics, the machine
report/     tables, the plot, the files under results/, the README
stage.py    a private PostgreSQL and private folders, gone afterwards
"""
