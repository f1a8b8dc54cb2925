"""The mesh client: the two verbs, *propose* and *watch*, for programs outside the cluster.

    async with connected(keys, name="ops", managers=peers) as client:
        outcome = await client.propose(ScaleService(service_id=service.id, replicas=5))

Each request goes from manager to manager, the one that answered last first, until one answers or
the client's patience ends; then the error lists what every manager said. A command is named by
(client id, sequence), so repeating it elsewhere applies it once (thesis section 6.3).
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from operator import itemgetter
from typing import Any

from meshswarm import codec
from meshswarm.answers import (
    Answer,
    Elected,
    FileRow,
    LogLine,
    ManagerStatus,
    NodeStats,
    TaskLines,
)
from meshswarm.errors import (
    Denied,
    KeyRefused,
    MeshswarmError,
    OutcomeUnknown,
    SessionExpired,
    Unavailable,
)
from meshswarm.ids import ClientId, Index, NodeId, TaskId, Term, digest_id
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.gathering import Gathering, Start
from meshswarm.mesh.keys import KeyPair
from meshswarm.mesh.links import Link
from meshswarm.mesh.peers import Lane, Peer
from meshswarm.mesh.requests import Chunk, Reply, whole_of
from meshswarm.model.file import FileKind
from meshswarm.model.pipe import PipeWish
from meshswarm.piping import RemotePipe
from meshswarm.store.commands import (
    Command,
    Group,
    PutSecret,
    encode_command,
)
from meshswarm.store.feed import Copy, Delta, looked_up
from meshswarm.store.gathered import Waiting, sent, waiting
from meshswarm.store.log_entry import Request, proposal_of
from meshswarm.store.outcome import Outcome, outcome_of
from meshswarm.store.slices import decode_view
from meshswarm.store.view import Key, Table, View

PATIENCE_S = 10.0
"""How long a request goes round the managers before it fails."""

FIRST_TRY_S = 0.7
TRY_S = 3.0
"""How long one manager may take, in the first round and later; a frozen one costs little."""

STATUS_S = 1.5
"""How long a manager may take to say how it is."""

MAX_TOGETHER = 1_000
"""Commands, or rows to look up, that one request of this client may hold ..."""

MAX_TOGETHER_BYTES = 512 << 10
"""... and about how many bytes of commands; what waits beyond that is the next request."""

ROW_BYTES = 256
"""What a row to look up counts."""

Sized = tuple[Waiting, int]
"""A command that waits to be sent, and about how many bytes it will take."""

PAUSE_S = 0.05
PAUSE_MAX_S = 0.5
"""After each round of the managers; doubles up to this, jittered."""


@asynccontextmanager
async def connected(
    keys: KeyPair, *, name: str, managers: Sequence[Peer], patience_s: float = PATIENCE_S
) -> AsyncIterator["Client"]:
    """A client of the cluster that these managers form; connections are made when first used."""
    incarnation = time.time_ns() // 1_000_000
    async with Endpoint(keys, name=name, incarnation=incarnation).opened() as endpoint:
        links = [endpoint.link(manager) for manager in managers]
        client_id = ClientId(digest_id("client", keys.public, incarnation, os.urandom(8)))
        yield Client(links, client_id, endpoint.start, patience_s=patience_s)


class Client:
    """The cluster as seen from outside; implements `store.port.Cluster`."""

    def __init__(
        self,
        links: Sequence[Link],
        client_id: ClientId,
        start: Start,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._links = list(links)
        self._id = client_id
        self._patience_s = patience_s
        self._sequence = 0
        self._opened_at: Index | None = None
        self._unanswered: set[int] = set()
        limits = {"most_items": MAX_TOGETHER, "most_bytes": MAX_TOGETHER_BYTES}
        self._proposals = Gathering[Sized, Outcome](
            self._propose_all, start, name="proposals", size_of=itemgetter(1), **limits
        )
        self._lookups = Gathering[Key, object | None](
            self._look_up_all, start, name="lookups", size_of=lambda _: ROW_BYTES, **limits
        )

    async def propose(self, command: Command) -> Outcome:
        """Carry the command out exactly once and say what it did.

        Raises the command's refusal; `Unavailable` if nothing was done; `OutcomeUnknown` if it may
        still be carried out.
        """
        if isinstance(command, Group):  # which cannot be in another one
            outcome = await self._propose_one(encode_command(command))
        else:
            outcome = await self._proposals.put(waiting(command))
        if outcome.error is not None:
            raise outcome.error
        return outcome

    async def row(self, table: Table, key: str) -> object | None:
        """One row as it is in a view that holds everything acknowledged before this call.

        Raises `Unavailable` without a leader or quorum.
        """
        return await self._lookups.put((table, key))

    async def read(self, *tables: Table) -> View:
        """A view of these tables (none: all) that holds everything acknowledged before this call.

        Raises `Unavailable` without a leader or quorum.
        """
        reply = await self._call(Lane.DATA, "read", {"tables": _names(tables)}, repeatable=True)
        return decode_view(whole_of(reply))

    async def watch(self, *tables: Table) -> AsyncGenerator[View, None]:
        """The present view of these tables (none: all), then a newer one after every change.

        Moves to another manager when one fails, and never goes back to an older view. Raises
        `Unavailable` when no manager serves it any longer.
        """
        newest = Index(0)
        body = {"tables": _names(tables)}
        while True:
            async with aclosing(self._chunks(Lane.DATA, "watch", lambda: body)) as chunks:
                copy = Copy()
                async for chunk in chunks:
                    view = copy.take(chunk.body, whole_of(chunk))
                    if view is not None and view.index >= newest:
                        newest = view.index
                        yield view

    async def files(self, kind: FileKind) -> list[FileRow]:
        """All configs or secrets by name, without their contents."""
        reply = await self._call(Lane.DATA, "files", {"kind": kind.value}, repeatable=True)
        return codec.decode(whole_of(reply), list[FileRow], lenient=True)

    async def watch_files(self, kind: FileKind) -> AsyncGenerator[list[FileRow], None]:
        """The same, then all of them anew after every change; goes on at another manager."""
        body = {"kind": kind.value}
        async with aclosing(self._chunks(Lane.DATA, "files.watch", lambda: body)) as chunks:
            async for chunk in chunks:
                yield codec.decode(whole_of(chunk), list[FileRow], lenient=True)

    async def sealed(self, name: str, content: bytes, **fields: Any) -> PutSecret:
        """The command that puts this secret, its content sealed by a manager.

        `fields` are further ones of the command. Raises `Invalid` if the content is too large.
        """
        reply = await self._call(
            Lane.DATA, "seal", {"name": name}, payloads=(content,), repeatable=True
        )
        match reply.body:
            case [bytes() as digest, str() as key_id]:
                sealed = whole_of(reply)
                return PutSecret(name=name, sealed=sealed, digest=digest, key_id=key_id, **fields)
            case _:
                raise codec.Undecodable("the manager did not seal it")

    async def statuses(self, *, without: str | None = None) -> list[Answer]:
        """How each manager is, by name; they are asked at once, but for the one named `without`."""
        asked_for = (link for link in self._links if link.peer.name != without)
        links = sorted(asked_for, key=lambda link: link.peer.name)
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(_status_of(link), name=f"status of {link.peer.name}")
                for link in links
            ]
        return [task.result() for task in asked]

    async def log(
        self, *, start: Index | None = None, tail: int | None = None, follow: bool = False
    ) -> AsyncGenerator[LogLine, None]:
        """The log from index `start`, or its last `tail` entries; with `follow` it never ends."""
        last: Index | None = None

        def body() -> dict[str, object]:
            if last is None:
                return {"from": start, "tail": tail, "follow": follow}
            return {"from": last + 1, "tail": None, "follow": follow}

        async with aclosing(self._chunks(Lane.DATA, "log", body)) as chunks:
            async for chunk in chunks:
                line = _log_line(chunk.body)
                last = line.index
                yield line

    async def elect(self, node_id: NodeId | None = None) -> Elected:
        """Hand leadership to that manager, or to the one best suited."""
        reply = await self._call(Lane.CONTROL, "elect", {"node": node_id})
        elected: Elected = codec.structure(reply.body, Elected, lenient=True)
        return elected

    async def task_logs(
        self,
        task_id: TaskId,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_ms: int | None = None,
    ) -> AsyncGenerator[TaskLines, None]:
        """What a task wrote; raises `Unavailable` when its node cannot be asked (any longer)."""
        body = {"task": task_id, "follow": follow, "tail": tail, "since_ms": since_ms}
        stream = self._chunks(Lane.BULK, "logs", lambda: body, resume=False)
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                lines: TaskLines = codec.structure(chunk.body, TaskLines, lenient=True)
                yield lines

    @asynccontextmanager
    async def pipe(self, task_id: TaskId, wish: PipeWish) -> AsyncIterator[RemotePipe]:
        """A pipe to a running task, closed when the block is left; what still runs is killed then.

        Raises `NotFound` if the task is not there, `Unavailable` if its node cannot be asked, and
        whatever its runtime has against it.
        """
        name = os.urandom(16).hex()
        body = {"pipe": name, "task": task_id, "wish": codec.unstructure(wish)}
        tries = _Tries(self._links, self._patience_s)
        async with AsyncExitStack() as stack:
            while (link := await tries.next()) is not None:
                try:
                    opened = link.stream(Lane.BULK, "pipe", body)
                    chunks = await stack.enter_async_context(opened)
                    async with asyncio.timeout(self._patience_s):
                        await anext(chunks)
                except Unavailable as error:
                    await stack.aclose()
                    tries.note(link, error)
                except (TimeoutError, StopAsyncIteration):
                    raise Unavailable(f"the node of task {task_id} opens no pipe") from None
                else:
                    yield RemotePipe(link, name, chunks)
                    return
        raise tries.error(repeatable=True)

    async def stats(self, node_id: NodeId) -> NodeStats:
        """What a node and its tasks use now; raises `Unavailable` when it cannot be asked."""
        reply = await self._call(Lane.BULK, "stats", {"node": node_id}, repeatable=True)
        measured: NodeStats = codec.structure(reply.body, NodeStats, lenient=True)
        return measured

    @property
    def asks_first(self) -> str:
        """The manager that is asked first: the leader, as far as this client has learnt."""
        return self._links[0].peer.name

    # --- together ---------------------------------------------------------------------------------

    async def _propose_all(self, asked: list[Sized]) -> Sequence[Outcome]:
        """One request of the cluster for all of them."""
        outcome = await self._propose_one(sent([command for command, _ in asked]))
        if len(asked) == 1 or outcome.error is not None:
            return [outcome] * len(asked)
        return outcome.parts

    async def _propose_one(self, encoded: bytes) -> Outcome:
        """A request of the cluster, repeated until it is answered."""
        self._sequence += 1
        sequence = self._sequence
        self._unanswered.add(sequence)
        try:
            if (opened_at := self._opened_at) is None:
                opened_at = self._opened_at = await self._begin()
            request = Request(
                client=self._id,
                sequence=sequence,
                acknowledged=min(self._unanswered) - 1,
                opened_at=opened_at,
            )
            reply = await self._call(Lane.DATA, "propose", proposal_of(encoded, request))
            self._turn_to(reply.payloads)
        finally:
            self._unanswered.discard(sequence)  # Answered, or nobody asks for it again.
        outcome = outcome_of(reply.body)
        if isinstance(outcome.error, SessionExpired):
            self._begin_anew()
        return outcome

    async def _begin(self) -> Index:
        """An entry that came before anything that was sent by this name."""
        reply = await self._call(Lane.DATA, "applied", None, repeatable=True)
        return Index(codec.structure(reply.body, int))

    def _begin_anew(self) -> None:
        """Go on by another name: the cluster has forgotten this one, and refuses it for ever."""
        self._id = ClientId(digest_id("client", self._id, os.urandom(8)))
        self._opened_at = None

    async def _look_up_all(self, keys: list[Key]) -> Sequence[object | None]:
        body = {"keys": [[table.value, key] for table, key in keys]}
        reply = await self._call(Lane.DATA, "rows", body, repeatable=True)
        match reply.payloads:
            case [rows, *leader]:
                self._turn_to(tuple(leader))
            case _:
                raise codec.Undecodable("an answer without rows")
        return looked_up(codec.decode(rows, Delta), keys)

    # --- going round the managers -----------------------------------------------------------------

    async def _call(
        self,
        lane: Lane,
        method: str,
        body: object,
        *,
        payloads: tuple[bytes, ...] = (),
        repeatable: bool = False,
    ) -> Reply:
        """The first answer; a request that changes nothing (`repeatable`) is never "unknown"."""
        tries = _Tries(self._links, self._patience_s)
        while (link := await tries.next()) is not None:
            try:
                reply = await link.call(lane, method, body, payloads, timeout_s=tries.try_s(link))
            except Unavailable as error:
                tries.note(link, error)
            else:
                self._prefer(link)
                return reply
        raise tries.error(repeatable=repeatable)

    async def _chunks(
        self, lane: Lane, method: str, body: Callable[[], object], *, resume: bool = True
    ) -> AsyncGenerator[Chunk, None]:
        """The chunks of a stream; with `resume` it goes on elsewhere, by a new `body()`."""
        tries = _Tries(self._links, self._patience_s)
        while (link := await tries.next()) is not None:
            has_begun = False
            try:
                async with link.stream(lane, method, body()) as chunks:
                    async for chunk in chunks:
                        has_begun = True
                        yield chunk
                self._prefer(link)
                return
            except Unavailable as error:
                if has_begun and not resume:
                    raise
                if has_begun:
                    tries = _Tries(self._links, self._patience_s)
                tries.note(link, error)
        raise tries.error(repeatable=True)

    def _prefer(self, link: Link) -> None:
        if self._links[0] is not link:
            self._links.remove(link)
            self._links.insert(0, link)

    def _turn_to(self, leader: tuple[bytes, ...]) -> None:
        """Ask the leader first from now on, if the manager that answered named one."""
        for link in self._links if leader else ():
            if (link.peer.id.encode(),) == leader:
                self._prefer(link)
                return


class _Tries:
    """One request's way round the managers, until the patience ends."""

    def __init__(self, links: Sequence[Link], patience_s: float) -> None:
        self._links = list(links)
        self._left = list(links)
        self._now = time.monotonic  # as the loop's
        self._patience_s = patience_s
        self._deadline = self._now() + patience_s
        self._pause_s = PAUSE_S
        self._is_first_round = True
        self._said: dict[str, Unavailable] = {}
        self._may_have_been_done = False

    def try_s(self, link: Link) -> float:
        """How long this manager may take; one not even connected, no longer than at first."""
        limit_s = FIRST_TRY_S if self._is_first_round or not link.is_up else TRY_S
        return max(0.1, min(limit_s, self._deadline - self._now()))

    async def next(self) -> Link | None:
        """The manager to ask next, after a pause between rounds; None: no patience left."""
        if not self._left:
            if self._are_all_refused:
                return None
            pause_s = self._pause_s * random.uniform(0.5, 1.0)
            self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
            if self._now() + pause_s >= self._deadline:
                return None
            await asyncio.sleep(pause_s)
            # Those that are connected first: waiting for a lost one may use the patience up.
            self._left = sorted(self._links, key=lambda link: not link.is_up)
            self._is_first_round = False
        if self._said and self._now() >= self._deadline:
            return None
        return self._left.pop(0)

    @property
    def _are_all_refused(self) -> bool:
        """Whether each manager said that it does not know our key: asking on is of no use."""
        refused = [error for error in self._said.values() if isinstance(error, KeyRefused)]
        return len(refused) == len(self._links)

    def note(self, link: Link, error: Unavailable) -> None:
        """Remember what this manager answered last."""
        self._said[f"{link.peer.name} ({link.peer.address})"] = error
        self._may_have_been_done |= isinstance(error, OutcomeUnknown)

    def error(self, *, repeatable: bool) -> MeshswarmError:
        """What to tell the caller: each manager and its last answer."""
        if self._are_all_refused:
            return denied(sorted(self._said))
        is_unknown = self._may_have_been_done and not repeatable
        end = "whether it was carried out is unknown" if is_unknown else "nothing was changed"
        return (OutcomeUnknown if is_unknown else Unavailable)(
            f"no manager could answer within {self._patience_s:g} s; {end}",
            details=[f"{who}: {said.message}" for who, said in sorted(self._said.items())],
            hint="`meshswarm cluster status` shows what each manager can tell",
        )


def denied(managers: Sequence[str]) -> Denied:
    """What to tell a client whose key these managers, all that there are, do not know."""
    return Denied(
        "no manager knows the key of this client",
        details=[f"{manager}: our key is not in its list" for manager in managers],
        hint="use the client.toml and client.key that were written with the nodes' settings, "
        "or add this key to [[clients]] in them",
    )


async def _status_of(link: Link) -> Answer:
    name, address = link.peer.name, link.peer.address or ""
    try:
        reply = await link.call(Lane.CONTROL, "status", {}, timeout_s=STATUS_S)
        status = codec.structure(reply.body, ManagerStatus, lenient=True)
        return Answer(name=name, address=address, status=status)
    except MeshswarmError as error:
        return Answer(name=name, address=address, error=error)


def _names(tables: Sequence[Table]) -> list[str]:
    return [table.value for table in tables or tuple(Table)]


def _log_line(body: object) -> LogLine:
    match body:
        case [int() as index, int() as term, int() | None as at_ms, str() as by, str() as words]:
            return LogLine(index=Index(index), term=Term(term), at_ms=at_ms, by=by, words=words)
        case _:
            raise codec.Undecodable(f"not a line of the log: {body!r:.200}")
