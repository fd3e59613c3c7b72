"""The form of API keys: `pn_<id>_<secret><checksum>`, and their hash. It knows nothing of where they are kept.

The secret has 256 bits (52 characters of RFC 4648 base32 in lower case); the checksum is a CRC-32 in the same alphabet, so that a mistyped
key, or one that a scanner found, is told from a real one without a database. A secret of 256 bits needs no slow hash: SHA-256 is kept.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass

SCOPES = (
    "payments:decide",
    "payments:read",
    "accounts:read",
    "cases:read",
    "cases:write",
    "cases:admin",
    "lists:read",
    "lists:write",
    "policies:read",
    "policies:write",
    "events:read",
    "metrics:read",
)
"""Every scope there is."""

_FORM = re.compile(r"pn_(?P<id>[0-9a-z]{12})_(?P<secret>[a-z2-7]{52})(?P<checksum>[a-z2-7]{7})", re.ASCII)
_ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it is shown once, with its id and the hash that is kept."""

    key_id: str
    text: str
    sha256: bytes


def new_key() -> NewKey:
    """A fresh key."""
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(12))
    secret = _base32(secrets.token_bytes(32))
    text = f"pn_{key_id}_{secret}{_checksum(key_id, secret)}"
    return NewKey(key_id, text, sha256(text))


def key_id_of(text: str) -> str | None:
    """The id of a key whose form and checksum are right, else None."""
    match = _FORM.fullmatch(text)
    if match is None or match["checksum"] != _checksum(match["id"], match["secret"]):
        return None
    return match["id"]


def sha256(text: str) -> bytes:
    """The hash that stands for a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _checksum(key_id: str, secret: str) -> str:
    return _base32(zlib.crc32(f"{key_id}_{secret}".encode()).to_bytes(4, "big"))


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()
