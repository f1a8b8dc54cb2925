"""CURVE key pairs and the file that keeps one: TOML, readable by its owner only."""

import os
import stat
import tomllib
from pathlib import Path

import zmq
from attrs import field, frozen
from zmq.utils import z85

from meshswarm.errors import Conflict, Corrupt, Denied, MeshswarmError, NotFound
from meshswarm.ids import NodeId, node_id_of

FILE_BYTES_MAX = 4096
"""A larger file is no key file."""


@frozen
class KeyPair:
    """A CURVE key pair (ZeroMQ RFC 26), both halves 40 bytes of Z85; never shows the secret."""

    public: bytes
    secret: bytes = field(repr=False)

    @property
    def id(self) -> NodeId:
        """The id of whoever holds this pair."""
        return node_id_of(self.public)


def generate() -> KeyPair:
    """A fresh key pair from the system's randomness."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public, secret)


def raw(half: bytes) -> bytes:
    """The 32 bytes that half a key pair stands for."""
    return bytes(z85.decode(half))


def save(keys: KeyPair, path: Path) -> None:
    """Write `keys` to a new file, mode 0600, durable on return.

    :raises Conflict: if the file exists: a key is an identity, it is never overwritten.
    :raises MeshswarmError: if the file cannot be written.
    """
    text = (
        f"# The identity of meshswarm node {keys.id}: keep `secret` secret.\n"
        f'public = "{keys.public.decode()}"\nsecret = "{keys.secret.decode()}"\n'
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Conflict(
            "a key file is there already; it is an identity and is never overwritten",
            where=str(path),
            hint=f"to give the identity up: `rm {path}`",
        ) from error
    except OSError as error:
        raise MeshswarmError(f"cannot write the key: {error.strerror}", where=str(path)) from error
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def load(path: Path) -> KeyPair:
    """The key pair in this file.

    :raises NotFound: if there is no such file.
    :raises Denied: if others than the owner may read it, or we may not.
    :raises Corrupt: if it is no key file, or its halves do not belong together.
    """
    fields = _read(path)
    public, secret = fields.get("public"), fields.get("secret")
    if not isinstance(public, str) or not isinstance(secret, str):
        raise Corrupt("a key file has the lines `public` and `secret`", where=str(path))
    keys = KeyPair(public.encode(), secret.encode())
    if len(keys.secret) != 40 or _public_of(keys.secret) != keys.public:
        raise Corrupt("the two halves of the key do not belong together", where=str(path))
    return keys


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise Denied(
                    "the key file can be read by others; its secret may be known",
                    where=str(path),
                    hint=f"chmod 600 {path}",
                )
            text = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise NotFound(
            "no key file", where=str(path), hint="`meshswarm config init` makes one per node"
        ) from error
    except PermissionError as error:
        raise Denied("not allowed to read the key file", where=str(path)) from error
    except OSError as error:
        raise Corrupt(f"cannot read the key file: {error.strerror}", where=str(path)) from error
    if len(text) > FILE_BYTES_MAX:
        raise Corrupt(f"a key file has at most {FILE_BYTES_MAX} bytes", where=str(path))
    try:
        return tomllib.loads(text.decode())
    except ValueError as error:
        raise Corrupt(f"not a key file: {error}", where=str(path)) from error


def _public_of(secret: bytes) -> bytes | None:
    try:
        return zmq.curve_public(secret)
    except (ValueError, zmq.ZMQError):
        return None
