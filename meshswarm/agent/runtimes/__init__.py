"""What can run a task: a Docker engine, plain processes, and a fake for tests, behind one port.

*Invariant:* a runtime keeps no memory of its own: what it holds is found again from labels (docker)
or from the task's directory (process) after any crash.
Deliberately absent: decisions. A runtime does one thing when told and says what it sees; when to do
it stands in `agent.plan`.
"""
