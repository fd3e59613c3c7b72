"""Recorded decisions judged by another policy: read in slices, evaluated by several processes, and counted. Knows no terminal and no HTTP."""
