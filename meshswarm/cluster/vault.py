"""Secrets, sealed: what the log, snapshots and clients' copies hold of them is of no use to others.

There is one key for all secrets, made when the first one is. The state has it too, but sealed for
each manager's CURVE key (a NaCl sealed box), which lies in that manager's key file alone. So a copy
of a journal, a snapshot or a backup tells no secret without one of the managers' key files.
Contents are sealed with XChaCha20-Poly1305, bound to their names. The digest by which equal
contents are known is keyed: nobody can try contents out on it.

*Invariant:* what is open leaves here only in the answer to a node that has a task which uses it.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable

import nacl.exceptions
from attrs import field, frozen
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.secret import Aead

from meshswarm.errors import Conflict, Corrupt, Invalid, MeshswarmError, Unavailable
from meshswarm.ids import NodeId, digest_id
from meshswarm.mesh import keys
from meshswarm.mesh.keys import KeyPair
from meshswarm.mesh.peers import Peer
from meshswarm.model.config import Config
from meshswarm.model.file import FileKind, KeptFile, Secret, SecretsKey
from meshswarm.store.commands import Command, PutSecretsKey
from meshswarm.store.files import MAX_SECRET_BYTES
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import View

log = logging.getLogger("meshswarm.vault")

SHARE_INTERVAL_S = 10.0
"""How often the leader looks whether a manager lacks a copy of the key."""


@frozen(kw_only=True)
class Sealed:
    """What the state keeps of a secret's content."""

    sealed: bytes = field(repr=False)
    digest: bytes
    key_id: str


@frozen
class _Keys:
    """What follows from the one key of all secrets."""

    content: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @staticmethod
    def of(key: bytes) -> "_Keys":
        content, digest = (
            hashlib.blake2b(key=key, person=what, digest_size=32).digest()
            for what in (b"content", b"digest")
        )
        return _Keys(content, digest)


class Vault:
    """A manager's way to seal and open secrets; `read` gives a view that holds all acknowledged."""

    def __init__(
        self,
        pair: KeyPair,
        managers: tuple[Peer, ...],
        view: Callable[[], View],
        read: Callable[[], Awaitable[View]],
        propose: Callable[[Command], Awaitable[Outcome]],
        leads: Callable[[], bool],
    ) -> None:
        self._me = pair.id
        self._box = SealedBox(PrivateKey(keys.raw(pair.secret)))
        self._managers = managers
        self._view = view
        self._read = read
        self._propose = propose
        self._leads = leads
        self._known: dict[str, _Keys] = {}

    async def run(self) -> None:
        """While this manager leads, let every manager have a copy of the key."""
        while True:
            await asyncio.sleep(SHARE_INTERVAL_S)
            if self._leads():
                try:
                    await self.share()
                except MeshswarmError as error:  # tried again at the next look
                    log.warning("cannot share the key of secrets: %s", error.message)

    async def share(self) -> None:
        """Seal the key for the managers that have no copy of it; raises the refusal."""
        for row in self._view().secrets_keys.values():
            lacking = [peer for peer in self._managers if peer.id not in row.sealed_for]
            if lacking and self._me in row.sealed_for:
                log.info("sealing the key of secrets for %s", ", ".join(p.name for p in lacking))
                sealed_for = _sealed_for(self._opened_key(row), lacking)
                await self._propose(PutSecretsKey(key_id=row.id, sealed_for=sealed_for))

    async def seal(self, name: str, content: bytes) -> Sealed:
        """Seal a secret's content, with a new key if it is the cluster's first.

        :raises Invalid: if it is too large.
        :raises Unavailable: without a quorum, or if this manager has no copy of the key.
        """
        if len(content) > MAX_SECRET_BYTES:
            raise Invalid(
                f"secret {name} has {len(content)} bytes; at most {MAX_SECRET_BYTES} are kept"
            )
        row = await self._present_key()
        made = self._keys(row)
        digest = hashlib.blake2b(key=made.digest, digest_size=16)
        for part in (name.encode(), content):
            digest.update(len(part).to_bytes(8, "big") + part)
        return Sealed(
            sealed=bytes(Aead(made.content).encrypt(content, name.encode())),
            digest=digest.digest(),
            key_id=row.id,
        )

    def opened(self, row: Config | Secret | KeptFile) -> bytes:
        """The content of a config or secret.

        :raises Unavailable: if this manager has no copy of the key.
        :raises Corrupt: if what is stored was not sealed with it, under this name.
        """
        if isinstance(row, Config) or (isinstance(row, KeptFile) and row.kind is FileKind.CONFIG):
            return row.data
        sealed = row.sealed if isinstance(row, Secret) else row.data
        key = self._view().secrets_keys.get(row.key_id)
        if key is None:
            raise Corrupt(f"secret {row.name} is sealed with a key that the cluster lost")
        try:
            return Aead(self._keys(key).content).decrypt(sealed, row.name.encode())
        except (nacl.exceptions.CryptoError, ValueError) as error:
            raise Corrupt(f"secret {row.name} cannot be opened: it is damaged") from error

    async def _present_key(self) -> SecretsKey:
        view = await self._read()
        if not view.secrets_keys:
            key = os.urandom(Aead.KEY_SIZE)
            made = PutSecretsKey(
                key_id=digest_id("secrets key", key), sealed_for=_sealed_for(key, self._managers)
            )
            try:
                await self._propose(made)
            except Conflict:
                log.info("another manager made the key of secrets first")
            view = await self._read()
        return next(iter(view.secrets_keys.values()))

    def _keys(self, row: SecretsKey) -> _Keys:
        if row.id not in self._known:
            self._known[row.id] = _Keys.of(self._opened_key(row))
        return self._known[row.id]

    def _opened_key(self, row: SecretsKey) -> bytes:
        copy = row.sealed_for.get(self._me)
        if copy is None:
            raise Unavailable("this manager has no copy of the key of secrets yet")
        try:
            return self._box.decrypt(copy)
        except (nacl.exceptions.CryptoError, ValueError) as error:
            raise Corrupt("this manager's copy of the key of secrets is damaged") from error


def _sealed_for(key: bytes, managers: "list[Peer] | tuple[Peer, ...]") -> dict[NodeId, bytes]:
    return {
        peer.id: SealedBox(PublicKey(keys.raw(peer.public_key))).encrypt(key) for peer in managers
    }
