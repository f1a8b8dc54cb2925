"""A whole cluster in one deterministic world: raft, store, control and agent.plan, unchanged.

From one seed come the cluster's shape, its network, disks and clocks, what its users ask for and
every fault. `clock.py` is time and processes, `network.py`, `disk.py` and `hosts.py` the world
around them; `driver.py`, `seat.py` and `agent.py` are the shells of `cluster` and `agent` retold
without I/O. `clients.py` are the users of a whole world, `clerks.py` those of a bare one, where
managers keep a ledger and nothing runs; `faults.py` lists the trouble, `*_faults.py` make it.

The checkers stand apart: they see what leaves a node and keep books of their own. `consensus.py`
has those of Raft (invariants I1 to I7), `checkers.py` those of the state and of what runs,
`history.py` and `ledger.py` what clients were told; `linearizability.py` judges any history, also
those of real processes. `run.py` makes a run of two phases: under faults nothing may break; once
they end, the cluster must become whole (I10).

*Invariants:* equal seeds, equal runs, to the last message; nothing here waits, sleeps or reads a
clock; a checker never asks a node what it believes. Deliberately absent: sockets, threads, event
loops of others, and the encodings of the mesh.
"""
