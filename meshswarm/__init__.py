"""meshswarm: a container orchestrator on Raft and an encrypted ZeroMQ mesh.

The map of this package, with the invariants of its rooms, is ARCHITECTURE.md beside this file.
"""

__version__ = "0.1.0"
