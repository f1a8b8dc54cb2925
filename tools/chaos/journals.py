"""What the managers' disks say when all is over: sound journals, one log, one state.

The clients' view of the state leaves out what they cannot ask for (the sessions by which a command
is carried out once); here it is compared in full, replayed from each disk by itself.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from meshswarm.cluster.journal import Journal
from meshswarm.cluster.journal_check import LIVE, inspect
from meshswarm.cluster.journal_recovery import Recovered
from meshswarm.cluster.membership import Membership
from meshswarm.cluster.snapshots import read_slices
from meshswarm.ids import Index, Term
from meshswarm.mesh.peers import Peer, PeerRole
from meshswarm.raft.types import EntryKind
from meshswarm.settings import load_settings
from meshswarm.store.apply import advance, apply
from meshswarm.store.slices import encode_view, view_of_slices
from meshswarm.store.view import View
from tools.chaos.cluster import Cluster, Manager


@frozen(kw_only=True)
class Held:
    """What one manager's disk holds."""

    manager: str
    directory: Path
    recovered: Recovered

    @property
    def commit(self) -> Index:
        """Up to where it knows the log to be committed."""
        snapshot, noted = self.recovered.snapshot, self.recovered.hard_state.commit
        return max(noted, snapshot.meta.index) if snapshot else noted

    def term_at(self, index: Index) -> Term | None:
        """The term of the entry at `index`, or of the snapshot that ends there; None: not held."""
        snapshot = self.recovered.snapshot
        if snapshot is not None and snapshot.meta.index == index:
            return snapshot.meta.term
        entries = self.recovered.entries
        return next((entry.term for entry in entries if entry.index == index), None)

    def state_at(self, index: Index) -> bytes:
        """The state after the entry at `index`, replayed from the snapshot and the log."""
        view = self._snapshot()
        assert view.index <= index, f"{self.manager} has a snapshot of {view.index} > {index}"
        for entry in self.recovered.entries:
            if view.index < entry.index <= index:
                assert entry.index == view.index + 1, f"{entry.index} after {view.index}"
                if entry.kind is EntryKind.NORMAL:
                    view = apply(view, index=entry.index, term=entry.term, data=entry.data).view
                else:
                    view = advance(view, index=entry.index, term=entry.term)
        assert view.index == index, f"{self.manager} ends at {view.index}, not {index}"
        return encode_view(view)

    def _snapshot(self) -> View:
        if self.recovered.snapshot is None:
            return View()
        name = self.recovered.snapshot.name
        return view_of_slices(read_slices(self.directory / str(name), name))


async def findings(cluster: Cluster) -> list[str]:
    """What the disks of stopped managers should not hold."""
    told, held = [], []
    for manager in cluster.managers.values():
        report = inspect(manager.data)
        faults = [fault for fault in (*report.faults, report.damage) if fault]
        told += [f"JOURNAL: of {manager.name}: {fault}" for fault in faults]
        held.append(await _opened(manager))
    return [*told, *_different_logs(held), *_different_states(held)]


async def _opened(manager: Manager) -> Held:
    settings = load_settings(manager.config, {})
    membership = Membership.of(
        Peer(name=row.name, role=PeerRole.MANAGER, public_key=row.public_key, address=row.address)
        for row in settings.managers
    )
    directory = manager.data / LIVE
    journal, recovered = Journal.open(
        directory,
        cluster_id=settings.cluster.id,
        node_id=settings.me.id,
        initial_conf=membership.initial_conf,
    )
    await journal.close()
    return Held(manager=manager.name, directory=directory, recovered=recovered)


def _different_logs(held: Sequence[Held]) -> Iterator[str]:
    """Committed entries that are not the same on two disks (Raft section 5.3)."""
    first: dict[Index, tuple[object, str]] = {}
    for one in held:
        for entry in one.recovered.entries:
            if entry.index <= one.commit:
                known, other = first.setdefault(entry.index, (entry, one.manager))
                if known != entry:
                    yield f"LOGS DIFFER: {one.manager} has {entry!r:.300}, {other} {known!r:.300}"
                    return


def _different_states(held: Sequence[Held]) -> Iterator[str]:
    """States that differ at the last index that the most advanced disk calls committed.

    A disk may lag, if its manager stopped first: one that does not hold that entry is left out.
    """
    newest = max(held, key=lambda one: one.commit)
    index = newest.commit
    states = {
        one.manager: one.state_at(index)
        for one in held
        if one.term_at(index) == newest.term_at(index)
    }
    if len(set(states.values())) > 1:
        sizes = {name: len(state) for name, state in states.items()}
        yield f"STATES DIFFER: at index {index}, bytes {sizes}"
