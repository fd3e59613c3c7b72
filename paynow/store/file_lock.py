"""Locks on files between processes (flock): the kernel drops them with the last descriptor, however a process ends. No waiting in here."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

SHARED = fcntl.LOCK_SH
EXCLUSIVE = fcntl.LOCK_EX


def open_lock(path: Path) -> int:
    """A descriptor of the lock's file, made if missing; to be closed, which gives the lock back."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def takes(lock: int, kind: int) -> bool:
    """Takes the lock as `SHARED` or `EXCLUSIVE` if that can be done at once; whether it could."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(path: Path) -> bool:
    """Whether nobody has the lock in either way."""
    lock = open_lock(path)
    try:
        return takes(lock, EXCLUSIVE)
    finally:
        os.close(lock)


def is_shared(path: Path) -> bool:
    """Whether others have it as `SHARED`: then it can be had that way, but not alone."""
    lock = open_lock(path)
    try:
        return not takes(lock, EXCLUSIVE) and takes(lock, SHARED)
    finally:
        os.close(lock)
