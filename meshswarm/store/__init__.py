"""The replicated state: commands go in, `apply` turns them into a new value and a change feed.

*Invariants:* the state is one immutable value, so a view is free and never changes under its
reader; `apply` is deterministic and total (a refused command changes nothing and says why); an
object's version is the log index of its last write, and a command that names an older version is
refused; equal states encode to equal bytes.
Deliberately absent: clocks (log time comes with each entry), decisions (`control`), the log
itself (`raft`, `cluster`).
"""
