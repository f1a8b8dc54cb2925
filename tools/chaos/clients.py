"""Clients of a cluster under chaos, as a process of its own: `python3 -m tools.chaos.clients`.

Each client does one operation after the other, until SIGTERM, and writes down what it was told.
Some go round all managers; others hold on to one manager each, so that a manager that is cut off,
or was asleep, is asked all the same; and some share one connection, so that what they ask for
travels together. Keys are in use for a few seconds only: histories stay short enough to be checked.
"""

import argparse
import asyncio
import itertools
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from attrs import frozen

from meshswarm.client import Client, connected
from meshswarm.errors import Conflict, MeshswarmError, OutcomeUnknown, Unavailable
from meshswarm.ids import ServiceId, Version
from meshswarm.mesh import keys
from meshswarm.mesh.peers import Peer, PeerRole
from meshswarm.model.service import Service
from meshswarm.settings import ClientContext, load_client_context
from meshswarm.store.view import Table
from tools.chaos.history import LABEL, Kind, Operation, Outcome, write_of

KEYS = 3
KEYS_USED_FOR_S = 8.0
PATIENCE_S = 4.0
"""After this time a client is told that nobody could answer; it then goes on with another key."""

PAUSE_S = 0.02
"""Between two operations of a client, on average."""

READS, SWAPS = 0.5, 0.2
"""Shares of all operations; the rest are plain writes."""

ROWS = 0.5
"""Share of the reads that ask for the one row, where it is known."""

SHARING = 4
"""Clients that share a connection."""


@frozen(kw_only=True)
class Seen:
    """What a client saw when it last read a key."""

    id: ServiceId
    value: str
    version: Version


class Register:
    """One client with the file that it writes its history to."""

    def __init__(self, name: str, client: Client, out: IO[str], dice: random.Random) -> None:
        self._name = name
        self._client = client
        self._out = out
        self._dice = dice
        self._numbers = itertools.count(1)
        self._seen: dict[str, Seen] = {}
        """A version that was read names one value; that of an answer may be shared by a group."""

    async def run(self, stop: asyncio.Event) -> None:
        """One operation after the other until told to stop."""
        while not stop.is_set():
            round_ = int(time.monotonic() / KEYS_USED_FOR_S)
            key = f"k{round_}-{self._dice.randrange(KEYS)}"
            await self.once(key)
            await asyncio.sleep(self._dice.expovariate(1 / PAUSE_S))

    async def once(self, key: str) -> None:
        """A random operation on this key."""
        draw = self._dice.random()
        if draw < READS * ROWS and key in self._seen:
            await self.read_row(key, self._seen[key].id)
        elif draw < READS:
            await self.read(key)
        elif draw < READS + SWAPS and key in self._seen:
            await self.swap(key)
        else:
            await self.write(key)

    async def read(self, key: str) -> None:
        """Read the key, linearizably."""
        done = self._begin(Kind.READ, key)
        try:
            view = await self._client.read(Table.SERVICES)
        except MeshswarmError as error:
            done(Outcome.FAILED, why=_why(error))
            return
        service = view.service_named(key)
        done(Outcome.OK, value=self._see(key, service), index=view.index)

    async def read_row(self, key: str, service_id: ServiceId) -> None:
        """Read the key's row alone, linearizably; the answer bears no index."""
        done = self._begin(Kind.READ, key)
        try:
            row = await self._client.row(Table.SERVICES, service_id)
        except MeshswarmError as error:
            done(Outcome.FAILED, why=_why(error))
            return
        assert isinstance(row, Service | None), f"a row of services is {row!r}"
        done(Outcome.OK, value=self._see(key, row))

    def _see(self, key: str, service: Service | None) -> str | None:
        if service is None:
            return None
        value = service.spec.labels[LABEL]
        self._seen[key] = Seen(id=service.id, value=value, version=service.version)
        return value

    async def write(self, key: str) -> None:
        """Write a new value."""
        await self._put(Kind.WRITE, key, None, None)

    async def swap(self, key: str) -> None:
        """Write a new value if the key still has the one that was seen last."""
        seen = self._seen[key]
        await self._put(Kind.SWAP, key, seen.value, seen.version)

    async def _put(
        self, kind: Kind, key: str, expected: str | None, version: Version | None
    ) -> None:
        value = f"{self._name}.{next(self._numbers)}"
        done = self._begin(kind, key)
        try:
            outcome = await self._client.propose(write_of(key, value, version))
        except Conflict as error:
            has_moved_on = kind is Kind.SWAP and f", not at {version}" in error.message
            outcome_ = Outcome.REFUSED if has_moved_on else Outcome.ODD
            done(outcome_, value=value, expected=expected, why=_why(error))
        except OutcomeUnknown as error:
            done(Outcome.UNKNOWN, value=value, expected=expected, why=_why(error))
        except Unavailable as error:
            done(Outcome.FAILED, value=value, expected=expected, why=_why(error))
        else:
            done(Outcome.OK, value=value, expected=expected, index=outcome.index)

    def _begin(self, kind: Kind, key: str) -> Callable[..., None]:
        invoked_ns = time.monotonic_ns()

        def done(
            outcome: Outcome,
            *,
            value: str | None = None,
            expected: str | None = None,
            index: int = 0,
            why: str = "",
        ) -> None:
            operation = Operation(
                client=self._name,
                key=key,
                kind=kind,
                outcome=outcome,
                invoked_ns=invoked_ns,
                returned_ns=time.monotonic_ns(),
                value=value,
                expected=expected,
                index=index,
                why=why,
            )
            self._out.write(operation.line() + "\n")

        return done


def _why(error: MeshswarmError) -> str:
    return "; ".join([error.message, *error.details])[:400]


def peers_of(context: ClientContext) -> list[Peer]:
    """The managers that a client context names."""
    return [
        Peer(name=row.name, role=PeerRole.MANAGER, public_key=row.public_key, address=row.address)
        for row in context.managers
    ]


async def _clients_of(
    names: list[str],
    context: ClientContext,
    managers: list[Peer],
    out: IO[str],
    stop: asyncio.Event,
) -> None:
    """Clients of these names, on one connection."""
    pair = keys.load(context.client.key_file)
    async with (
        connected(
            pair, name=context.client.name, managers=managers, patience_s=PATIENCE_S
        ) as client,
        asyncio.TaskGroup() as group,
    ):
        for name in names:
            register = Register(name, client, out, random.Random(name))
            group.create_task(register.run(stop), name=name)


async def _clients(context: ClientContext, prefix: str, out: IO[str], roaming: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    peers = peers_of(context)
    async with asyncio.TaskGroup() as group:
        for number in range(roaming):
            name = f"{prefix}r{number}"
            some = peers[number % len(peers) :] + peers[: number % len(peers)]
            group.create_task(_clients_of([name], context, some, out, stop), name=name)
        for peer in peers:
            name = f"{prefix}{peer.name}"
            group.create_task(_clients_of([name], context, [peer], out, stop), name=name)
        sharing = [f"{prefix}s{number}" for number in range(SHARING)]
        group.create_task(_clients_of(sharing, context, peers, out, stop), name="sharing")


def main() -> None:
    """Run clients until SIGTERM."""
    parser = argparse.ArgumentParser(prog="clients", description=__doc__)
    parser.add_argument("--context", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prefix", required=True, help="begins the clients' names and values")
    parser.add_argument("--roaming", type=int, default=3)
    wanted = parser.parse_args()
    context = load_client_context(wanted.context)
    with wanted.out.open("a", encoding="utf-8", buffering=1) as out:
        asyncio.run(_clients(context, wanted.prefix, out, wanted.roaming))


if __name__ == "__main__":
    main()
