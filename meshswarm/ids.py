"""The identifiers of the domain: thin `NewType`s, so that the type checker keeps them apart.

Ids are short lower-case base32 texts; a unique prefix is enough wherever a user types one. A node's
id is derived from its CURVE public key, so claiming an id means owning its key.
"""

import base64
import hashlib
from typing import NewType

ClusterId = NewType("ClusterId", str)
NodeId = NewType("NodeId", str)
ServiceId = NewType("ServiceId", str)
TaskId = NewType("TaskId", str)
JobId = NewType("JobId", str)
ClientId = NewType("ClientId", str)

Term = NewType("Term", int)
"""A Raft term: >= 0, only grows (Raft section 5.1)."""

Index = NewType("Index", int)
"""A Raft log index: the first entry has index 1; 0 means "before the log"."""

Version = NewType("Version", int)
"""An object's version: the log index of its last write."""

ID_LENGTH = 13
"""Characters of an id: 65 bits in base32."""


def digest_id(*parts: str | bytes | int) -> str:
    """The id that these parts determine: 13 characters of [a-z2-7]; equal parts, equal id."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return base64.b32encode(digest.digest()).decode().lower()[:ID_LENGTH]


def node_id_of(public_key: bytes) -> NodeId:
    """The id of the node (or client) that owns this CURVE public key, 40 bytes of Z85."""
    return NodeId(digest_id("node", public_key))
