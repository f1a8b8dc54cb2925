"""Every queue, window and table stays under its declared limit (I9): looked at from outside,
whenever it may have grown."""

from meshswarm.ids import Index
from meshswarm.raft.core import RaftCore
from meshswarm.raft.log import ENTRY_OVERHEAD_BYTES
from meshswarm.raft.messages import AppendEntries, Message
from meshswarm.raft.types import EntryKind
from meshswarm.sim.trace import Violation
from meshswarm.store.outcome import MAX_ANSWERS, MAX_CLIENTS
from meshswarm.store.view import View


def check_reads(core: RaftCore) -> None:
    """What waits for a majority to confirm it, now that one more does."""
    reign, limit = core._state.reign, core._state.config.max_pending_reads
    if reign is not None and len(reign.reads) > limit:
        raise Violation(f"{core.id} keeps {len(reign.reads)} of {limit} reads")


def check_proposals(core: RaftCore) -> None:
    """What a leader took since it knows what is committed; one proposal is always taken when
    nothing else waits, however large, and what Raft itself appends does not count."""
    log, term = core._state.log, core._state.term
    if not core.leads or log.term(log.committed) != term or log.last_index == log.committed:
        return
    allowed = core._state.config.max_uncommitted_bytes
    if log.uncommitted_bytes <= allowed:
        return
    first = Index(log.committed + 1)
    waiting = log.slice(first, log.last_index, max_entries=1 << 30, max_bytes=1 << 60)
    sizes = [len(e.data) + ENTRY_OVERHEAD_BYTES for e in waiting if e.kind is EntryKind.NORMAL]
    if len(sizes) > 1 and sum(sizes) > allowed:
        raise Violation(f"{core.id} keeps {sum(sizes)} bytes uncommitted, {allowed} are allowed")


def check_message(message: Message, core: RaftCore) -> None:
    """What one append may hold, one entry at least, however large; and what may be on its way to
    one peer without an answer."""
    if not isinstance(message, AppendEntries):
        return
    config, reign, count = core._state.config, core._state.reign, len(message.entries)
    if count > 1:
        size = sum(len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in message.entries)
        if count > config.max_append_entries or size > config.max_append_bytes:
            raise Violation(f"{message.from_} sends {count} entries of {size} bytes in one append")
    if reign is None or (progress := reign.peers.get(message.to)) is None:
        return
    window = progress.inflights
    if len(window) > config.max_inflight:
        raise Violation(f"{core.id} has {len(window)} appends on their way to {message.to}")
    if window.bytes > config.max_inflight_bytes + config.max_append_bytes:
        raise Violation(f"{core.id} has {window.bytes} bytes on their way to {message.to}")


def check_view(view: View) -> None:
    """What the state remembers of its clients."""
    if len(view.clients) > MAX_CLIENTS:
        raise Violation(f"{len(view.clients)} clients are remembered at index {view.index}")
    for session in view.clients.values():
        if len(session.answers) > MAX_ANSWERS:
            raise Violation(f"{len(session.answers)} answers of {session.id} are remembered")
