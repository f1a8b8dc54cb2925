"""What a manager answers to clients and other managers: propose, read, watch, status, log.

Every handler works on any manager. Those that need the leader go to it (`proposals`); what needs an
agent is the `relay`'s.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection

from meshswarm import codec
from meshswarm.answers import FileRow
from meshswarm.cluster.driver import Driver
from meshswarm.cluster.history import History
from meshswarm.cluster.hub import ALL
from meshswarm.cluster.proposals import FORWARD, HAND_OVER, READ_INDEX, Proposals
from meshswarm.cluster.vault import Vault
from meshswarm.errors import Denied, Invalid, MeshswarmError
from meshswarm.ids import NodeId
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.peers import Peer, PeerRole
from meshswarm.mesh.requests import Answer, Chunk, Reply, Request, in_parts
from meshswarm.model.file import FileKind
from meshswarm.store.commands import RegisterNode, ReportTasks, decode_command
from meshswarm.store.feed import delta_of, deltas_of
from meshswarm.store.files import listing
from meshswarm.store.log_entry import Request as Name
from meshswarm.store.log_entry import request_of
from meshswarm.store.outcome import Outcome
from meshswarm.store.slices import framed, view_slices
from meshswarm.store.view import Key, Table, View

DELTA_ROWS = 500
"""Rows that a watcher is sent in one chunk."""

GATHER_S = 0.05
"""From one delta that a watcher is sent to the next: what changes meanwhile travels together."""

FILES_GATHER_S = 0.5
"""The same for listings of configs and secrets: each is made anew, from all their users."""

FILE_TABLES = frozenset(
    {
        Table.CONFIGS,
        Table.SECRETS,
        Table.KEPT_FILES,
        Table.SERVICES,
        Table.REVISIONS,
        Table.ROLLOUTS,
        Table.TASKS,
    }
)
"""What such a listing is made of."""

ANYONE = frozenset(PeerRole)
USERS = frozenset({PeerRole.CLIENT, PeerRole.MANAGER})
MANAGERS = frozenset({PeerRole.MANAGER})


class Service:
    """The calls and streams of a manager, registered on its endpoint."""

    def __init__(
        self,
        driver: Driver,
        proposals: Proposals,
        history: History,
        endpoint: Endpoint,
        managers: Callable[[NodeId], Peer | None],
        status: Callable[[], dict[str, object]],
        vault: Vault,
    ) -> None:
        self._driver = driver
        self._proposals = proposals
        self._history = history
        self._managers = managers
        self._status = status
        self._vault = vault
        endpoint.on_call("propose", self._propose, roles=ANYONE, prompt=self._propose_at_once)
        endpoint.on_call(FORWARD, self._append, roles=MANAGERS, prompt=self._append_at_once)
        endpoint.on_call(READ_INDEX, self._read_index, roles=MANAGERS)
        endpoint.on_call(HAND_OVER, self._hand_over, roles=MANAGERS)
        endpoint.on_call("files", self._files, roles=USERS)
        endpoint.on_call("seal", self._seal, roles=USERS)
        endpoint.on_call("read", self._read, roles=ANYONE)
        endpoint.on_call("rows", self._rows, roles=ANYONE, prompt=self._rows_at_once)
        endpoint.on_call("status", self._tell_status, roles=ANYONE)
        endpoint.on_call("applied", self._tell_applied, roles=ANYONE)
        endpoint.on_call("elect", self._elect, roles=USERS)
        endpoint.on_stream("watch", self._watch, roles=ANYONE)
        endpoint.on_stream("files.watch", self._watch_files, roles=USERS)
        endpoint.on_stream("log", self._log, roles=USERS)

    # --- commands -----------------------------------------------------------------------------

    async def _propose(self, request: Request) -> Reply:
        """A client's or an agent's command; the refusal, if any, is in the outcome."""
        command, name, is_report = _proposal(request)
        if is_report and name is None:
            outcome = await self._proposals.report(command, request.peer.name)
        else:
            outcome = await self._proposals.submit(command, name, request.peer.name)
        return Reply(outcome.encoded(), self._elsewhere())

    def _propose_at_once(self, request: Request, answer: Answer) -> bool:
        command, name, is_report = _proposal(request)
        if is_report and name is None:
            return False  # it waits for others

        def told(outcome: Outcome | MeshswarmError) -> None:
            if isinstance(outcome, MeshswarmError):
                answer(outcome)
            else:
                answer(Reply(outcome.encoded(), self._elsewhere()))

        return self._proposals.submit_at_once(command, name, request.peer.name, told)

    def _elsewhere(self) -> tuple[bytes, ...]:
        """Who leads, if it is another: whoever asks again saves a hop by asking there."""
        core = self._driver.core
        return () if core.leader in (None, core.id) else (str(core.leader).encode(),)

    async def _append(self, request: Request) -> Reply:
        """Another manager's proposal, handed to this one as the leader."""
        outcome = await self._proposals.append_here(*_forwarded(request))
        return Reply(outcome.encoded())

    def _append_at_once(self, request: Request, answer: Answer) -> bool:
        def told(outcome: Outcome | MeshswarmError) -> None:
            answer(outcome if isinstance(outcome, MeshswarmError) else Reply(outcome.encoded()))

        return self._proposals.append_at_once(*_forwarded(request), told)

    async def _read_index(self, request: Request) -> Reply:
        return Reply(await self._driver.confirmed_index())

    async def _hand_over(self, request: Request) -> Reply:
        match request.body:
            case [None | str() as target]:
                node = None if target is None else NodeId(target)
                return Reply(list(await self._proposals.hand_over_here(node)))
            case _:
                raise Invalid("a hand-over names a node, or none")

    async def _elect(self, request: Request) -> Reply:
        match request.body:
            case {"node": None}:
                target = None
            case {"node": str() as node}:
                target = NodeId(node)
            case _:
                raise Invalid("an election names a node, or none")
        leader, term = await self._proposals.hand_over(target)
        peer = self._managers(leader)
        return Reply({"leader": peer.name if peer else leader, "term": term})

    async def _seal(self, request: Request) -> Reply:
        """A secret's content, which the client is to propose sealed."""
        match request.body, request.payloads:
            case {"name": str() as name}, (bytes() as content,):
                sealed = await self._vault.seal(name, content)
                return Reply([sealed.digest, sealed.key_id], (sealed.sealed,))
            case _:
                raise Invalid("what is to be sealed has a name and a content")

    # --- views --------------------------------------------------------------------------------

    async def _read(self, request: Request) -> Reply:
        tables = _tables(request.body)
        view = await self._proposals.read()
        parts = [part async for part in _copied(view, tables)]
        return Reply(None, in_parts(b"".join(parts)))

    async def _rows(self, request: Request) -> Reply:
        return self._found(await self._proposals.read(), _keys(request.body))

    def _rows_at_once(self, request: Request, answer: Answer) -> bool:
        keys = _keys(request.body)

        def told(view: View | MeshswarmError) -> None:
            answer(view if isinstance(view, MeshswarmError) else self._found(view, keys))

        return self._proposals.read_at_once(told)

    def _found(self, view: View, keys: Collection[Key]) -> Reply:
        rows = codec.unstructure(delta_of(view, keys, ALL))
        return Reply(None, (codec.dumps_in_order(rows), *self._elsewhere()))

    async def _files(self, request: Request) -> Reply:
        """All configs or secrets, without their contents."""
        kind = _file_kind(request.body)
        return Reply(None, (codec.encode(listing(await self._proposals.read(), kind)),))

    async def _watch_files(self, request: Request) -> AsyncIterator[Chunk]:
        """The same, and all of them anew whenever they differ: their contents are not sent."""
        kind = _file_kind(request.body)
        told: list[FileRow] | None = None
        await self._proposals.read()
        with self._driver.hub.watching(FILE_TABLES) as watch:
            while True:
                await watch.wait()
                view, _ = watch.take()
                rows = listing(view, kind)
                if rows != told:
                    told = rows
                    yield Chunk(None, (codec.encode(rows),))
                await asyncio.sleep(FILES_GATHER_S)

    async def _watch(self, request: Request) -> AsyncIterator[Chunk]:
        """A copy of the tables, then deltas; a watcher that lags gets a fresh copy."""
        tables = _tables(request.body)
        await self._proposals.read()
        with self._driver.hub.watching(tables) as watch:
            while True:
                await watch.wait()
                view, keys = watch.take()
                if keys is None:
                    async for part in _copied(view, tables):
                        yield Chunk(["copy", False], (part,))
                    yield Chunk(["copy", True])
                    continue
                deltas = tuple(deltas_of(view, keys, tables, DELTA_ROWS))
                for number, delta in enumerate(deltas, 1):
                    yield Chunk(["delta", number == len(deltas)], in_parts(codec.encode(delta)))
                    await asyncio.sleep(0)
                if deltas:
                    await asyncio.sleep(GATHER_S)

    async def _tell_applied(self, request: Request) -> Reply:
        """An entry that is applied here: what a client that begins now sends comes later."""
        return Reply(int(self._driver.hub.view.index))

    async def _tell_status(self, request: Request) -> Reply:
        return Reply(self._status())

    # --- logs ---------------------------------------------------------------------------------

    async def _log(self, request: Request) -> AsyncIterator[Chunk]:
        """The replicated log in words."""
        match request.body:
            case {
                "from": None | int() as first,
                "tail": None | int() as tail,
                "follow": bool() as follow,
            }:
                pass
            case _:
                raise Invalid("a log request has from, tail and follow")
        async for line in self._history.lines(first, tail, follow):
            yield Chunk(line)


async def _copied(view: View, tables: frozenset[Table]) -> AsyncIterator[bytes]:
    """A copy of the tables, a few milliseconds' worth at a time: large ones take seconds, in which
    a leader has other things to do."""
    for part in view_slices(view, tables):
        yield framed(part)
        await asyncio.sleep(0)


def _file_kind(body: object) -> FileKind:
    match body:
        case {"kind": ("config" | "secret") as kind}:
            return FileKind(kind)
        case _:
            raise Invalid("a listing of files is of configs or secrets")


def _tables(body: object) -> frozenset[Table]:
    match body:
        case {"tables": [*names]}:
            return frozenset(_table(name) for name in names)
        case _:
            raise Invalid("a reader names its tables")


def _keys(body: object) -> set[Key]:
    match body:
        case {"keys": [*pairs]}:
            keys: set[Key] = set()
            for pair in pairs:
                match pair:
                    case [str() as table, str() as key]:
                        keys.add((_table(table), key))
                    case _:
                        raise Invalid(f"not a table and a key: {pair!r:.100}")
            return keys
        case _:
            raise Invalid("who looks up rows names their keys")


def _table(name: object) -> Table:
    table = _TABLES.get(name) if isinstance(name, str) else None
    if table is None:
        raise Invalid(f"no table {name!r:.100}; there are {', '.join(sorted(_TABLES))}")
    return table


_TABLES = {table.value: table for table in Table}


def _proposal(request: Request) -> tuple[bytes, Name | None, bool]:
    """The command of a client or an agent, by what name it is carried out once, and whether it is
    an agent's report."""
    match request.body:
        case [bytes() as command, name]:
            is_report = _check_writer(request.peer, command)
            return command, request_of(name), is_report
        case _:
            raise Invalid("a proposal is [command, request name]")


def _forwarded(request: Request) -> tuple[bytes, Name | None, str]:
    """The command that another manager hands over, its name, and who proposed it."""
    match request.body, request.payloads:
        case [name, str() as by], [bytes() as command]:
            return command, request_of(name), by
        case _:
            raise Invalid("a forwarded proposal is [request name, by] and the command")


def _check_writer(peer: Peer, command: bytes) -> bool:
    """An agent speaks of its own node, and of nothing else (one writer per field); whether it is
    one that reports."""
    if peer.role is PeerRole.CLIENT:
        return False
    value = decode_command(command)
    if not isinstance(value, RegisterNode | ReportTasks):
        raise Denied(f"`{type(value).__name__}` is not for agents", where=peer.name)
    if value.node_id != peer.id:
        raise Denied(f"{peer.name} speaks of node {value.node_id}, which it is not")
    return isinstance(value, ReportTasks)
