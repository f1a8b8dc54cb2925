"""Secrets in a cluster: sealed wherever they lie, open only for a node whose task uses them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attrs import evolve

from meshswarm.cluster.seat import Seat
from meshswarm.cluster.vault import Vault
from meshswarm.errors import Corrupt, Denied, Invalid, Unavailable
from meshswarm.ids import TaskId
from meshswarm.mesh import keys
from meshswarm.mesh.peers import Lane, Peer, PeerRole
from meshswarm.model.file import FileKind, FileUse, Secret
from meshswarm.model.task import DesiredState
from meshswarm.store.apply import apply_command
from meshswarm.store.commands import (
    Command,
    CreateTask,
    PutConfig,
    PutSecret,
    PutSecretsKey,
    PutService,
    RegisterNode,
)
from meshswarm.store.files import MAX_SECRET_BYTES
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import View
from tests.support.builders import NOW_MS, node, service_spec
from tests.support.managers import Manager, Managers, managers

CONTENT = b"correct horse battery staple"


@asynccontextmanager
async def led(tmp_path: Path) -> AsyncIterator[tuple[Managers, Manager, Manager]]:
    """Three managers: all of them, the leader, and another one."""
    async with managers(tmp_path) as cluster:
        leader = await cluster.leads()
        yield cluster, leader, next(m for m in cluster.members if m is not leader)


def seat(manager: Manager) -> Seat:
    assert manager.seat is not None
    return manager.seat


async def put(manager: Manager, *, name: str = "db", content: bytes = CONTENT) -> PutSecret:
    """Put a secret by way of this manager."""
    sealed = await seat(manager).vault.seal(name, content)
    command = PutSecret(name=name, sealed=sealed.sealed, digest=sealed.digest, key_id=sealed.key_id)
    await seat(manager).proposals.propose(command)
    return command


async def give_task(manager: Manager, to: Manager, use: FileUse) -> FileUse:
    """Have a task on that node which uses it; the use as it was pinned."""
    proposals = seat(manager).proposals
    register = RegisterNode(
        node_id=to.keys.id,
        name=to.name,
        role=node("x").role,
        address="",
        incarnation=1,
        labels={},
        description=node("x").description,
    )
    await proposals.propose(register)
    await proposals.propose(PutService(spec=service_spec("web", replicas=0, files=(use,))))
    row = (await proposals.read()).service_named("web")
    assert row is not None
    create = CreateTask(
        task_id=TaskId("t1"),
        service_id=row.id,
        service_version=row.version,
        slot=1,
        revision=1,
        node_id=to.keys.id,
        desired=DesiredState.RUNNING,
    )
    await proposals.propose(create)
    pinned: FileUse = row.spec.task.files[0]
    return pinned


async def ask(who: Manager, of: Manager, use: FileUse) -> bytes:
    """What a manager answers the node that asks it for a file."""
    assert who.endpoint is not None
    body = [use.kind.value, use.source, int(use.version)]
    link = who.endpoint.link(of.peer)
    reply = await link.call(Lane.DATA, "session.file", body, timeout_s=5)
    [content] = reply.payloads
    return content


async def test_any_manager_seals_and_opens_and_equal_contents_are_known(tmp_path: Path) -> None:
    async with led(tmp_path) as (cluster, leader, other):
        first, second = await put(leader), await put(other)
        assert first.digest == second.digest
        assert first.sealed != second.sealed
        assert (await put(other, name="other")).digest != first.digest
        for member in cluster.members:
            view = await seat(member).proposals.read()
            assert CONTENT == seat(member).vault.opened(view.secrets["db"])


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_nothing_on_a_managers_disk_tells_a_secret(tmp_path: Path) -> None:
    async with led(tmp_path) as (_, leader, other):
        await put(other)
        await seat(leader).proposals.propose(PutConfig(name="open", data=b"a config is not sealed"))
        await seat(other).proposals.read()
    written = on_disk(tmp_path)
    assert b"a config is not sealed" in written
    assert CONTENT not in written


async def test_a_node_is_given_what_a_task_of_its_own_uses_and_nothing_else(
    tmp_path: Path,
) -> None:
    async with led(tmp_path) as (cluster, leader, other):
        third = next(m for m in cluster.members if m not in (leader, other))
        await put(leader)
        await put(leader, name="unused")
        use = FileUse(kind=FileKind.SECRET, source="db", target="db")
        use = await give_task(leader, other, use)
        await put(leader, content=b"newer")
        assert CONTENT == await ask(other, leader, use)
        for who, wanted in (
            (third, use),
            (other, evolve(use, source="unused")),
            (other, evolve(use, kind=FileKind.CONFIG)),
        ):
            with pytest.raises(Denied, match=f"no task of {who.name} uses"):
                await ask(who, leader, wanted)


async def test_a_secret_has_a_limit_and_an_error_tells_nothing_of_it(tmp_path: Path) -> None:
    async with led(tmp_path) as (_, leader, _other):
        with pytest.raises(Invalid) as refused:
            await put(leader, content=CONTENT * (MAX_SECRET_BYTES // len(CONTENT) + 1))
        assert CONTENT.decode() not in str(refused.value)
        assert len((await put(leader, content=bytes(MAX_SECRET_BYTES))).sealed) > MAX_SECRET_BYTES


# --- without a cluster ------------------------------------------------------------------------


class Alone:
    """A state, and the vaults of managers that share it."""

    def __init__(self, *known: str) -> None:
        self.pairs = {name: keys.generate() for name in ("n1", "n2")}
        self.view = View(clock_ms=NOW_MS)
        self.known = known

    def vault(self, name: str, *managers: str) -> Vault:
        async def read() -> View:
            return self.view

        peers = tuple(
            Peer(name=each, role=PeerRole.MANAGER, public_key=self.pairs[each].public)
            for each in managers
        )
        pair = self.pairs[name]
        return Vault(pair, peers, lambda: self.view, read, self.propose, lambda: True)

    async def propose(self, command: Command) -> Outcome:
        applied = apply_command(self.view, command)
        if applied.outcome.error is not None:
            raise applied.outcome.error
        self.view = applied.view
        return applied.outcome

    async def put(self, vault: Vault, name: str = "db") -> Secret:
        sealed = await vault.seal(name, CONTENT)
        await self.propose(
            PutSecret(name=name, sealed=sealed.sealed, digest=sealed.digest, key_id=sealed.key_id)
        )
        return self.view.secrets[name]


async def test_a_manager_that_comes_later_is_given_the_key() -> None:
    alone = Alone()
    first, second = alone.vault("n1", "n1"), alone.vault("n2", "n1", "n2")
    row = await alone.put(first)
    with pytest.raises(Unavailable, match="no copy of the key"):
        second.opened(row)
    await alone.vault("n1", "n1", "n2").share()
    assert CONTENT == second.opened(row)
    assert row.digest == (await alone.put(second)).digest


async def test_two_that_make_the_key_at_once_agree_on_one() -> None:
    alone = Alone()
    vault = alone.vault("n1", "n1")
    made = PutSecretsKey(key_id="theirs", sealed_for={})

    async def lose(command: Command) -> Outcome:
        if not alone.view.secrets_keys:
            await alone.propose(made)
        return await alone.propose(command)

    vault._propose = lose
    with pytest.raises(Unavailable, match="no copy"):
        await vault.seal("db", CONTENT)
    assert ["theirs"] == list(alone.view.secrets_keys)


async def test_what_is_moved_or_changed_is_not_opened() -> None:
    alone = Alone()
    vault = alone.vault("n1", "n1")
    row = await alone.put(vault)
    changed = bytes([row.sealed[0] ^ 1]) + row.sealed[1:]
    for wrong in (evolve(row, name="other"), evolve(row, sealed=changed), evolve(row, sealed=b"")):
        with pytest.raises(Corrupt, match="cannot be opened"):
            vault.opened(wrong)
    with pytest.raises(Corrupt, match="the cluster lost"):
        vault.opened(evolve(row, key_id="nope"))
