"""What operators and tasks do at the wrong moment: hand-overs, members that come and go, exits."""

from collections.abc import Callable
from functools import partial

from meshswarm.agent.card import Exit, HeldState
from meshswarm.errors import Unavailable
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.task import Health, Reason
from meshswarm.raft.confchange import changed
from meshswarm.raft.refusals import ConfChangeRefused
from meshswarm.raft.types import ConfChange, ConfChangeKind, ConfState
from meshswarm.sim.hosts import Host
from meshswarm.sim.scene import Scene
from meshswarm.sim.seat import Seat

MAX_VOTERS = 5
RETURN_SHARE = 0.5
"""Of the hand-overs: the old leader gets leadership back, as when hosts restart one by one."""

FALLS_SHARE = 0.3
"""Of the changes of the membership: their leader dies in the midst of them."""

ATTEMPTS = 4
"""Changes thought of, of which the first that is possible is asked for."""


def hand_over(scene: Scene) -> str:
    """Let the leader hand leadership to another manager; sometimes it gets it back soon."""
    leader, target = scene.leader(), NodeId(scene.rng.choice(scene.world.shape.manager_ids))
    if leader is None:
        return ""
    _hand_to(target, leader)
    if scene.rng.random() < RETURN_SHARE:
        scene.life.after(scene.rng.randrange(20, 400), partial(_hand_back, scene, leader.id))
    return f"from {leader.id} to {target}"


def _hand_back(scene: Scene, to: NodeId) -> None:
    leader = scene.leader()
    if leader is not None:
        scene.world.trace.tell("return", f"from {leader.id} to {to}")
        _hand_to(to, leader)


def _hand_to(target: NodeId, leader: Seat) -> None:
    leader.ask_of_it(partial(_try, partial(leader.driver.transfer_leadership, target)))


def members(scene: Scene) -> str:
    """Let a manager join as a learner or at once as a voter, be promoted, demoted or removed.

    Never so that too few voters with a whole log are left.
    """
    leader = scene.leader()
    if leader is None:
        return ""
    attempts = (_change(scene, leader) for _ in range(ATTEMPTS))
    change = next((change for change in attempts if change is not None), None)
    if change is None:
        return ""
    leader.ask_of_it(partial(_try, partial(_have_changed, scene, leader, change)))
    if scene.rng.random() < FALLS_SHARE:
        scene.life.after(scene.rng.randrange(30), partial(_fall, scene, leader.id))
    return f"{change.kind.value} {change.node}, asked of {leader.id}"


def _change(scene: Scene, leader: Seat) -> ConfChange | None:
    conf = leader.driver.core.status().conf
    node = NodeId(scene.rng.choice(scene.world.shape.manager_ids))
    kind = scene.rng.choice(tuple(ConfChangeKind))
    if node not in conf.members and kind is ConfChangeKind.ADD_VOTER and scene.rng.random() < 0.7:
        kind = ConfChangeKind.ADD_LEARNER
    change = ConfChange(kind, node)
    try:
        after = changed(conf, change)
    except ConfChangeRefused:
        return None
    return change if _is_bearable(scene, after) else None


def _fall(scene: Scene, node: NodeId) -> None:
    """Before all know of the change, or that it is committed."""
    scene.world.trace.tell("fall", scene.kill([node], power=False))


def _have_changed(scene: Scene, leader: Seat, change: ConfChange) -> None:
    """The wish arrives, after a pause perhaps: what voters had then they may have lost since."""
    if _is_bearable(scene, changed(leader.driver.core.status().conf, change)):
        leader.driver.change_members(change)


def _is_bearable(scene: Scene, after: ConfState) -> bool:
    least = min(2, scene.world.shape.managers)
    fits = least <= len(after.voters) <= MAX_VOTERS
    return fits and scene.world.has_sound_quorum(also=after)


def _try(work: Callable[[], None]) -> None:
    """Do it, or learn that it cannot be done now."""
    try:
        work()
    except (Unavailable, ConfChangeRefused):
        return


# --- what runs --------------------------------------------------------------------------------


def task_ends(scene: Scene) -> str:
    """Let a task exit by itself."""
    code = scene.rng.choice((0, 1, 137))
    return _to_a_task(scene, "ends", lambda host, task: host.runtime.end(task, Exit(code=code)))


def task_vanishes(scene: Scene) -> str:
    """Remove a container behind the agent's back."""
    return _to_a_task(scene, "is removed", lambda host, task: host.runtime.lose(task))


def unready(scene: Scene) -> str:
    """Let a task's readiness probe fail for a while: it is not to be replaced for that."""
    return _to_a_task(scene, "is not ready", partial(_feel_unready, scene))


def _feel_unready(scene: Scene, host: Host, task: TaskId) -> None:
    host.runtime.feel(task, Health.NOT_READY, "not now")
    scene.later(partial(_feel_ready, host, task))


def _feel_ready(host: Host, task: TaskId) -> None:
    held = host.runtime.board.look(task)
    if held is not None and held.state is HeldState.RUNNING:
        host.runtime.feel(task, Health.NONE)


def stubborn(scene: Scene) -> str:
    """Let a task ignore its stop signal."""
    return _to_a_task(scene, "ignores its stop signal", _make_stubborn)


def _make_stubborn(host: Host, task: TaskId) -> None:
    host.runtime.stubborn.add(task)


def _to_a_task(scene: Scene, text: str, happen: Callable[[Host, TaskId], None]) -> str:
    running = [(host, task) for host in scene.world.hosts.values() for task in host.running()]
    if not running:
        return ""
    host, task = scene.rng.choice(running)
    happen(host, task)
    return f"{task} on {host.id} {text}"


def runtime_fails(scene: Scene) -> str:
    """Let a runtime refuse some verb a few times."""
    host = scene.a_host()
    verb = scene.rng.choice(("prepare", "start", "stop", "remove"))
    reason = scene.rng.choice((Reason.RUNTIME_UNAVAILABLE, Reason.START_FAILED))
    host.runtime.fail(verb, reason, times=scene.rng.randrange(1, 4))
    return f"{verb} on {host.id}: {reason.value}"
