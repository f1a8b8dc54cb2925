"""Consensus over opaque bytes in logical ticks: Raft as a state machine without I/O.

In go ticks, messages, proposals and completions; out come `Ready` values that say what to persist,
send, apply and answer. The embedder's order is law and stands in `ready.py`; which message waits
for which write stands in `outbox.py`. Names are those of the Raft paper (Ongaro and Ousterhout
2014) and of Ongaro's thesis; each rule cites its section.

`core.py` is the door. Behind it `state.py` holds what one node knows; `election.py`, `leading.py`
and `following.py` are what it does with it; `log.py`, `progress.py`, `reads.py`, `outbox.py`,
`quorum.py`, `confchange.py` and `guards.py` know one thing each and nothing of the others'
business.

*Invariants:* term and commit index never fall; a leader never rewrites its own log; nothing at or
below the commit index changes; no message leaves before what it promises is durable; equal inputs
give equal outputs (chance comes in as `Rng`, iteration is in sorted order).
Deliberately absent: clocks, sockets, disks, encodings, joint consensus, lease reads.
"""
