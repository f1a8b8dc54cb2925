"""A manager's seat in the cluster: consensus made durable and sent, and what it serves.

*Invariants:* nothing is sent before what it promises is durable (`driver`); a client is answered
only after commit and apply (`proposals`); only the leader's control loop proposes placements
(`leadership`); an agent is told its full set only from a view as new as the leader's (`sessions`).
Deliberately absent: decisions about elections (`raft`), about tasks (`control`), about what a
command means (`store`); this room awaits, calls them, and carries out what they said.
"""
