"""What a node runs on its host besides itself, and the end of it."""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from meshswarm.agent.files_root import FilesRoot, home_of
from meshswarm.agent.runtimes import process
from meshswarm.cli.dev.layout import NodeFiles
from meshswarm.cli.talk import say
from meshswarm.errors import MeshswarmError
from meshswarm.model.service import RuntimeKind
from meshswarm.settings import load_settings

if TYPE_CHECKING:
    from meshswarm.agent.runtimes.docker_engine import Engine

ENGINE_CALLS = 8
"""Containers that are ended at once."""


class Remains:
    """The processes and containers of one node; what takes time is done when this is made."""

    def __init__(self, node: NodeFiles) -> None:
        self._agent_dir = node.state / "agent"
        self._settings = load_settings(node.config, {})
        agent = self._settings.agent
        has_engine = RuntimeKind.DOCKER in agent.runtimes
        self._engine = _engine(agent.docker_host) if has_engine else None

    def end(self, *, remove: bool) -> int:
        """Kill them all; gives how many there were. `remove` leaves no dead containers behind."""
        ended = process.kill_all(self._agent_dir)
        agent = self._settings.agent
        FilesRoot(home_of(agent.files_dir), self._settings.me.id).forget()
        if self._engine is None:
            return ended
        try:
            return ended + self._end_containers(self._engine, remove=remove)
        except MeshswarmError as error:
            say(f"warning: containers of {self._settings.node.name} may be left: {error.message}")
            return ended
        finally:
            self._engine.close()

    def _end_containers(self, engine: "Engine", *, remove: bool) -> int:
        from meshswarm.agent.runtimes.docker_spec import own_filter

        found = engine.containers(own_filter(self._settings.cluster.id, self._settings.me.id))
        running = [each["Id"] for each in found if each["State"] != "exited"]
        with ThreadPoolExecutor(ENGINE_CALLS, thread_name_prefix="end-containers") as pool:
            list(pool.map(lambda container: engine.signal(container, "SIGKILL"), running))
            if remove:
                list(pool.map(lambda each: engine.remove(each["Id"]), found))
        return len(running)


def _engine(host: str) -> "Engine":
    from meshswarm.agent.runtimes.docker_engine import Engine

    return Engine(host, ENGINE_CALLS)


def end_all(nodes: list[NodeFiles]) -> int:
    """End all that these nodes left, for good; gives how many processes and containers ran."""
    return sum(Remains(node).end(remove=True) for node in nodes)
