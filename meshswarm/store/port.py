"""The port `Cluster`: the two verbs that join all rooms, *propose a command* and *watch a view*.

On a manager the verbs are local (`cluster.seat`), in a client they travel over the mesh
(`client.Client`); nothing else couples the rooms.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from meshswarm.store.commands import Command
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import View


class Cluster(Protocol):
    """All that other rooms know of consensus."""

    async def propose(self, command: Command) -> Outcome:
        """Carry the command out exactly once and say what it did.

        Raises the command's refusal; `Unavailable` if nothing was done; `OutcomeUnknown` if it may
        still be carried out.
        """
        ...

    async def read(self) -> View:
        """A view that holds everything acknowledged before this call (linearizable).

        Raises `Unavailable` without a leader or quorum.
        """
        ...

    def watch(self) -> AsyncIterator[View]:
        """The present view, then a newer one after every change; views between may be left out."""
        ...
