"""What the leader does about the cluster: `decide(view, dirty, liveness, policy, now)` -> commands.

*Invariants:* a pass is a pure function of its arguments; it is level-triggered (it computes what
is missing from the view, so a lost wake-up, a cut batch or a new leader costs nothing); the
controllers work one after the other on a what-if copy of the view, so that tasks are created and
placed in one batch; a second pass over the result decides nothing; a slot has at most one live
task, or an old and a new one where its service starts first; the cost of a pass follows the change,
not the cluster.
Order of a pass: `nodes`, then for each service `services` (with `restart`, `rollout`, `turns`),
`schedule` (with `filters`, `score`), `reaper`; at last the waiting tasks are explained.
Deliberately absent: clocks, beats and probes (`cluster` brings them as values), any memory of its
own, and whatever agents decide (`agent.plan`).
"""
