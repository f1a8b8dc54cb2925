"""A node's hands: it runs the tasks that the cluster bound to this node, and says how they fare.

`agent.Agent` is the whole room; `plan` holds all its decisions as pure functions, which `sim` runs
unchanged; `supervisor` carries them out, one coroutine a task; `runtimes` are what can run a task;
`session` speaks to one manager at a time.

*Invariant:* a task is started at most once, and never again after it ended.
*Invariant:* what does not carry our label, our cluster and our node is never touched.
*Invariant:* the end of the agent, or the loss of every manager, ends no task; a restarted agent
adopts what still runs.
Deliberately absent: restarting (a replacement is a new task, which controllers make), placement,
and any memory that cannot be rebuilt from the runtimes and the managers.
"""
