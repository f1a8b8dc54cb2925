"""The mesh: messages, calls and streams between nodes over CURVE-encrypted ZeroMQ.

Reading order: `peers` and `limits` (values), `frames` (the bytes), `channel` (the conversation on
one lane) with its halves `asking` and `serving`, `listener` and `dialer` (what carries it), `links`
(what callers hold), `endpoint` (all of it behind one door).

Invariants:
- A node's identity is its CURVE public key. Each message's claimed sender equals the authenticated
  key, or the message is dropped and counted; nothing unauthenticated reaches a handler.
- Nothing here blocks the loop, and nothing that arrives from outside can end it: what cannot be
  read is counted, logged once per peer and minute, and dropped.
- On one lane messages arrive in order, at most once; an older incarnation of a node is fenced.
- A call ends with an answer, the peer's typed error, `Unavailable` (it was not carried out) or
  `OutcomeUnknown`. A stream never outlives either of its ends.
- Every queue and table has a limit (`limits`), and its reaction when full stands beside it.
- Sockets are only touched on the loop's thread. Liveness is answered by the loop (PING, PONG);
  TCP's own time-outs only close dead connections.

Deliberately absent: what messages mean, Raft, attrs conversion, retries of calls, relaying.
"""
