"""A bare cluster's users: clerks who read and write a few registers, and note what they saw."""

import random

from meshswarm.errors import OutcomeUnknown, Unavailable
from meshswarm.ids import NodeId
from meshswarm.model.node import NodeDescription, NodeRole
from meshswarm.sim.clients import Caller
from meshswarm.sim.ledger import KEYS, LABEL
from meshswarm.sim.seat import Premises
from meshswarm.store.commands import RegisterNode, UpdateNode

BURSTS = (1, 1, 4)
"""So many writes at once when no answer is waited for: they make the tails that leaders lose."""

READING = (0.2, 0.4, 0.95)
"""The share of reads among what a clerk does: who only reads is never held up by a write."""


class Clerk:
    """One clerk, one operation at a time."""

    def __init__(self, caller: Caller, premises: Premises, rng: random.Random) -> None:
        self.id, self.life = caller.id, caller.life
        self.is_busy = True
        """Whether an operation waits for its answer, or the last look is still to come."""
        self._caller, self._premises, self._rng = caller, premises, rng
        self._ledger = premises.checkers.ledger
        self._wants = True
        self._count = 0
        self._reading = rng.choice(READING)
        self.life.spawn(self._use())

    def rest(self) -> None:
        """Write nothing new; look once more."""
        self._wants = False

    async def _use(self) -> None:
        for key in KEYS:
            await self._write(key, "make", _register(key), None)
        while self._wants:
            await self.life.sleep(self._rng.randrange(1, self._premises.shape.think_ms))
            await self._work()
        await self._read()
        self.is_busy = False

    async def _work(self) -> None:
        if self._rng.random() < self._reading:
            await self._read()
        elif self._rng.random() < 0.7:
            key, command, value = self._wish()
            await self._write(key, "write", command, value)
        else:
            for _ in range(self._rng.choice(BURSTS)):
                self.life.spawn(self._try(*self._wish()))

    def _wish(self) -> tuple[str, UpdateNode, str]:
        self._count += 1
        value, key = f"{self.id}.{self._count}", self._rng.choice(KEYS)
        return key, UpdateNode(node_id=NodeId(key), labels={LABEL: value}), value

    async def _read(self) -> None:
        since = self._ledger.instant()
        view = await self._caller.read()
        self._ledger.reads(self.id, since, view)

    async def _write(
        self, key: str, kind: str, command: RegisterNode | UpdateNode, value: str | None
    ) -> None:
        call = self._ledger.begins(self.id, key, kind, value)
        self._ledger.ends(call, await self._caller.propose(command))

    async def _try(self, key: str, command: UpdateNode, value: str) -> None:
        """Write without a name, and without asking again."""
        call = self._ledger.begins(self.id, key, "write", value)
        try:
            self._ledger.ends(call, await self._caller.propose_once(command))
        except OutcomeUnknown:
            return
        except Unavailable:
            self._ledger.ends(call, None)


def _register(key: str) -> RegisterNode:
    """What makes a register, or finds it made."""
    return RegisterNode(
        node_id=NodeId(key),
        name=key,
        role=NodeRole.WORKER,
        address="",
        incarnation=1,
        labels={},
        description=NodeDescription(hostname=key),
    )
