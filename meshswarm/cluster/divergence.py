"""Managers tell each other the fingerprints of their states; who is alone with its own stops.

A manager whose state is not that of the majority must not go on: it would serve what is wrong, and
decide by it once it led. It ends its node, and a note beside its journal keeps it from starting
again, because its snapshot holds what is wrong. An operator moves the directory away; the node then
begins with nothing and is sent everything. Where no majority agrees nobody stops, for nobody can
say who is right; all say loudly that they differ.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from meshswarm import __version__, codec
from meshswarm.cluster.diverged_note import must_not_run, write_note
from meshswarm.cluster.driver import Driver
from meshswarm.cluster.state_hash import Comparison, Fingerprint, Kind, Verdict, state_fingerprint
from meshswarm.errors import Unavailable
from meshswarm.ids import Index, NodeId
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.peers import Lane, Peer, PeerRole
from meshswarm.store.view import View

log = logging.getLogger("meshswarm.cluster")

FINGERPRINT = "fingerprint"
"""The mesh's notify kind: [version, what it is of, index, digest]."""


class Divergence:
    """One manager's comparison of its state with the others'."""

    def __init__(
        self,
        driver: Driver,
        endpoint: Endpoint,
        managers: Callable[[], Iterable[Peer]],
        directory: Path,
    ) -> None:
        self.differing: dict[NodeId, Index] = {}
        """The other managers that differ from this one, and where that was seen last."""
        self._driver = driver
        self._endpoint = endpoint
        self._managers = managers
        self._directory = directory
        self._me = driver.core.id
        self._comparison = Comparison(self._me)
        self._view: View | None = None
        self._due = asyncio.Event()
        driver.state_hash.tell = self._tell
        driver.state_hash.due = self._note_due
        endpoint.on_notify(FINGERPRINT, self._on_fingerprint, roles={PeerRole.MANAGER})

    async def run(self) -> None:
        """Fingerprint whole states when they are due, off the loop, one at a time."""
        while True:
            await self._due.wait()
            self._due.clear()
            view, self._view = self._view, None
            assert view is not None, "a view is due that nobody named"
            self._tell(await asyncio.to_thread(state_fingerprint, view))

    def _note_due(self, view: View) -> None:
        """A view that comes while another is looked at takes the place of one that waits."""
        self._view = view
        self._due.set()

    def _tell(self, mine: Fingerprint) -> None:
        body = [__version__, mine.kind.value, int(mine.index), mine.digest]
        for peer in self._managers():
            if peer.id != self._me:
                with suppress(Unavailable):  # the endpoint is closing
                    self._endpoint.link(peer).notify(Lane.CONTROL, FINGERPRINT, body)
        self._take_in(self._me, mine)

    def _on_fingerprint(self, peer: Peer, body: object, payloads: tuple[bytes, ...]) -> None:
        match body:
            case [str() as version, str() as kind, int() as index, bytes() as digest] if (
                kind in _KINDS
            ):
                pass
            case _:
                raise codec.Undecodable(f"not a fingerprint: {body!r:.100}")
        # Another version may know of more to be looked at: that it differs says nothing.
        if version == __version__:
            self._take_in(peer.id, Fingerprint(_KINDS[kind], Index(index), digest))

    def _take_in(self, node: NodeId, fingerprint: Fingerprint) -> None:
        voters = self._driver.core.status().conf.voters
        verdict = self._comparison.add(node, fingerprint, voters)
        if verdict is None:
            return
        if fingerprint.kind is Kind.STATE:  # that entries did the same now mends nothing
            for peer in verdict.agreeing:
                if self.differing.get(peer, verdict.index) < verdict.index:
                    del self.differing[peer]
        for peer in sorted(verdict.differing):
            self.differing[peer] = verdict.index
            self._cry(peer, fingerprint.kind, verdict)
        if verdict.is_mine_wrong:
            self._stop(verdict.index)

    def _cry(self, peer: NodeId, kind: Kind, verdict: Verdict) -> None:
        log.error(
            "the managers' states differ kind=%s index=%d here=%s there=%s: %s",
            kind.value,
            verdict.index,
            self._me,
            peer,
            "a majority agrees" if verdict.is_decided else "no majority agrees (yet)",
        )

    def _stop(self, index: Index) -> None:
        what = f"up to entry {index} the others agree on a state that is not this manager's"
        self._driver.fail(must_not_run(self._directory, what))
        try:
            write_note(self._directory, what)
        except OSError as error:
            log.error("nothing keeps this manager from starting again: %s", error)


_KINDS = {kind.value: kind for kind in Kind}
