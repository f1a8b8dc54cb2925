"""Probes the node's tasks: one coroutine a probe, all of them bounded in number and time.

Only what a probe's health changes to is said; results never leave this node.
"""

import asyncio
from collections.abc import Callable, Mapping

from meshswarm.agent import checks, probes
from meshswarm.agent.card import Card, Probed
from meshswarm.agent.checks import Found
from meshswarm.agent.runtimes.port import Runtime, RuntimeFailure
from meshswarm.errors import Unavailable
from meshswarm.ids import TaskId
from meshswarm.model.probe import CommandCheck, HttpCheck, Probe, ProbeKind, TcpCheck
from meshswarm.model.service import RuntimeKind
from meshswarm.model.task import Health, Reason

MAX_CONNECTIONS = 32
"""Connections to tasks at once; further checks wait, and are late."""

MAX_COMMANDS = 4
"""Commands beside tasks at once; further ones wait, and are late."""


class Prober:
    """`say` is called when a probe of a task says something else than before; it must not block."""

    def __init__(
        self, runtimes: Mapping[RuntimeKind, Runtime], say: Callable[[TaskId, Probed], None]
    ) -> None:
        self._runtimes = runtimes
        self._say = say
        self._cards: dict[TaskId, Card] = {}
        self._probed: dict[TaskId, Probed] = {}
        self._running: dict[TaskId, asyncio.Task[None]] = {}
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)
        self._commands = asyncio.Semaphore(MAX_COMMANDS)
        self._group: asyncio.TaskGroup | None = None

    def look(self, card: Card) -> None:
        """A card changed: begin to probe its task, or leave off."""
        if probes.to_probe(card):
            self._cards[card.task_id] = card
            self._begin(card)
        elif self._cards.pop(card.task_id, None) is not None:
            self._probed.pop(card.task_id, None)
            if (running := self._running.pop(card.task_id, None)) is not None:
                running.cancel()

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for card in list(self._cards.values()):
                    self._begin(card)
                await asyncio.Event().wait()
        finally:
            self._group = None

    def _begin(self, card: Card) -> None:
        task_id = card.task_id
        if self._group is not None and task_id not in self._running:
            self._running[task_id] = self._group.create_task(
                self._probe_all(card), name=f"probes {task_id}"
            )

    async def _probe_all(self, card: Card) -> None:
        """The startup probe until it is well, then the others; `look` cancels it."""
        wanted = probes.to_probe(card)
        self._note(card.task_id, card.probed or probes.begun(wanted, card))
        if wanted.startup is not None:
            await self._probe(card.task_id, ProbeKind.STARTUP, wanted.startup)
        async with asyncio.TaskGroup() as group:
            for kind in (ProbeKind.READINESS, ProbeKind.LIVENESS):
                if (probe := wanted.of(kind)) is not None:
                    name = f"{kind.value} {card.task_id}"
                    group.create_task(self._probe(card.task_id, kind, probe), name=name)

    async def _probe(self, task_id: TaskId, kind: ProbeKind, probe: Probe) -> None:
        """Check and check again; the startup probe only until it is well."""
        now_s = asyncio.get_running_loop().time
        state = probes.first(now_s(), self._probed[task_id].of(kind).health)
        while kind is not ProbeKind.STARTUP or state.health is not Health.HEALTHY:
            await asyncio.sleep(max(0.0, probes.due_s(probe, state) - now_s()))
            found = await self._check(task_id, probe)
            if found is None:
                await asyncio.sleep(probe.interval_s)
                continue
            state = probes.after_check(
                probe, state, is_well=found.is_well, output=found.output, now_s=now_s()
            )
            self._note(task_id, probes.noted(self._probed[task_id], kind, state))

    def _note(self, task_id: TaskId, probed: Probed) -> None:
        if self._probed.get(task_id) != probed:
            self._probed[task_id] = probed
            self._say(task_id, probed)

    async def _check(self, task_id: TaskId, probe: Probe) -> Found | None:
        """One check; None if it is not the task's fault that there is no result."""
        held = self._cards[task_id].held
        assert held is not None, f"{task_id} is probed and does not run"
        try:
            match probe.check:
                case CommandCheck(argv=argv):
                    async with self._commands:
                        runtime = self._runtimes[held.runtime]
                        done = await runtime.execute(task_id, argv, probe.timeout_s)
                    said = done.output if done.output.strip() else f"exit code {done.code}"
                    return Found(done.code == 0, said)
                case HttpCheck() as check:
                    host, port = probes.address_of(held, check.port)
                    async with self._connections:
                        return await checks.get(check, host, port, probe.timeout_s)
                case TcpCheck(port=target):
                    host, port = probes.address_of(held, target)
                    async with self._connections:
                        return await checks.connect(host, port, probe.timeout_s)
        except Unavailable as error:
            return Found(False, error.message)
        except RuntimeFailure as failure:
            if failure.reason is Reason.RUNTIME_UNAVAILABLE:
                return None
            return Found(False, failure.message)
