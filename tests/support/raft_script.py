"""The language of `tests/raft/scenarios`: one method a command, words as arguments.

Disks write at once unless made `slow`. Nothing ticks or arrives unless a command says so.
`quiet` before a command leaves the messages out of its trace.
"""

from collections.abc import Callable, Iterator

from meshswarm.errors import MeshswarmError
from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft.config import RaftConfig
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import Message, RequestVote
from meshswarm.raft.types import (
    ConfChange,
    ConfChangeKind,
    Entry,
    EntryKind,
    HardState,
)
from tests.support.raft_world import World, describe_entry

MAX_TICKS = 1_000
MAX_STEPS = 10_000
"""A scenario that does not come to rest after so many messages is wrong."""

SETTINGS = {
    "election": "election_ticks",
    "heartbeat": "heartbeat_ticks",
    "inflight": "max_inflight",
    "entries": "max_append_entries",
    "bytes": "max_append_bytes",
    "uncommitted": "max_uncommitted_bytes",
    "prevote": "pre_vote",
    "checkquorum": "check_quorum",
    "snapshots": "snapshot_elections",
    "thrifty": "thrifty",
}


class Draws:
    """Chance as the scenario wants it: always the same timeout, until told another."""

    def __init__(self, ticks: int) -> None:
        self.ticks = ticks

    def randrange(self, start: int, stop: int, /) -> int:
        return max(start, min(self.ticks, stop - 1))


class Script:
    """Carries out a scenario's commands against one world."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._world = World({})
        self._draws: dict[NodeId, Draws] = {}
        self._held: set[str] = set()

    def run(self, line: str) -> list[str]:
        """What comes of one command, a line each; `ok` if there is nothing to tell."""
        self._lines = []
        words = line.split()
        quiet = words[0] == "quiet"
        name, *args = words[1:] if quiet else words
        try:
            getattr(self, f"do_{name}")(*args)
        except MeshswarmError as error:
            self._tell(f"error: {error.message}")
        lines = [told for told in self._lines if not (quiet and "->" in told.split()[0])]
        return lines or ["ok"]

    def _tell(self, line: str) -> None:
        self._lines.append(line)

    # The cluster

    def do_nodes(self, *words: str) -> None:
        """`nodes a b c [learners=d,e] [strangers=f] [SETTING=N]`: start a cluster."""
        options = dict(word.split("=") for word in words if "=" in word)
        voters = [word for word in words if "=" not in word]
        learners = [node for node in options.pop("learners", "").split(",") if node]
        strangers = [node for node in options.pop("strangers", "").split(",") if node]
        settings = {SETTINGS[name]: int(value) for name, value in options.items()}
        config = RaftConfig(
            node_id=NodeId("-"),
            pre_vote=bool(settings.pop("pre_vote", 1)),
            check_quorum=bool(settings.pop("check_quorum", 1)),
            thrifty=bool(settings.pop("thrifty", 0)),
            **settings,
        )
        members = sorted([*voters, *learners, *strangers])
        ticks = config.election_ticks
        self._draws = {
            NodeId(node): Draws(ticks + place % ticks) for place, node in enumerate(members)
        }
        self._world = World.of(
            voters,
            learners=learners,
            strangers=strangers,
            config=config,
            rng_of=lambda node: self._draws[node],
        )
        self._world.tell = self._tell

    def do_stored(self, names: str, *words: str) -> None:
        """`stored a,b terms=1,1,2 term=2 [vote=b] [commit=1]`: begin with this on the disks."""
        options = dict(word.split("=") for word in words)
        terms = [int(term) for term in options["terms"].split(",") if term]
        vote = options.get("vote")
        entries = [
            Entry(Index(index), Term(term), f"{index}.{term}".encode(), EntryKind.NORMAL)
            for index, term in enumerate(terms, 1)
        ]
        commit = Index(int(options.get("commit", 0)))
        hard_state = HardState(Term(int(options["term"])), NodeId(vote) if vote else None, commit)
        for name in self._nodes(names):
            self._world.store(name, entries, hard_state)

    def do_timeout(self, name: str, ticks: str) -> None:
        """`timeout a 12`: the length of the node's election timeouts that begin from now on."""
        self._draws[NodeId(name)].ticks = int(ticks)

    # Time and messages

    def do_tick(self, names: str, count: str = "1") -> None:
        """`tick a,b 3` or `tick all 3`: ticks, with no message delivered."""
        for _ in range(int(count)):
            for node in self._nodes(names):
                self._world.tick(node)

    def do_campaign(self, name: str) -> None:
        """`campaign a`: tick one node until it runs for leader."""
        node = NodeId(name)
        before = self._candidacy(node)
        for _ in range(MAX_TICKS):
            self._world.tick(node)
            if self._candidacy(node) != before:
                return
        self._tell(f"{node} does not campaign")

    def _candidacy(self, node: NodeId) -> tuple[Term, int]:
        """Changes whenever the node begins to campaign."""
        asks = [m for m in self._world.wire if m.from_ == node and isinstance(m, RequestVote)]
        return self._core(node).status().term, len(asks)

    def do_elect(self, name: str) -> None:
        """`elect a`: campaign, then settle; no messages in the trace."""
        self.do_campaign(name)
        self.do_settle()
        self._lines = [line for line in self._lines if "->" not in line]

    def do_settle(self) -> None:
        """Deliver everything, and what comes of it, until nothing is in flight but what is held."""
        for _ in range(MAX_STEPS):
            free = (m for m in self._world.wire if type(m).__name__ not in self._held)
            if (message := next(free, None)) is None:
                return
            self._world.deliver(message)
        raise AssertionError(f"still {len(self._world.wire)} messages in flight")

    def do_run(self, count: str = "1") -> None:
        """`run 5`: so many times a tick of every node, then settle."""
        for _ in range(int(count)):
            self.do_tick("all")
            self.do_settle()

    def do_deliver(self, *words: str) -> None:
        """`deliver [a->b] [Kind] [last]`: what is in flight now, but not what comes of it."""
        for message in self._picked(words):
            self._world.deliver(message)

    def do_repeat(self, *words: str) -> None:
        """`repeat [a->b] [Kind]`: deliver, and leave a copy in flight."""
        for message in self._picked(words):
            self._world.deliver(message, keep=True)

    def do_drop(self, *words: str) -> None:
        """`drop [a->b] [Kind]`: lose what is in flight."""
        for message in self._picked(words):
            self._world.drop(message)

    def do_hold(self, kind: str) -> None:
        """`hold InstallSnapshot`: from now on messages of this kind take long; `deliver` brings
        them."""
        self._held.add(kind)

    def do_wire(self) -> None:
        """What is in flight."""
        for message in self._world.wire:
            self._tell(f"{message.from_}->{message.to} {type(message).__name__} {message.term}")

    def do_cut(self, *words: str) -> None:
        """`cut a` from all, `cut a b` both ways, `cut a->b` one way."""
        self._world.cuts |= set(self._links(words))

    def do_heal(self) -> None:
        """All links work again."""
        self._world.cuts.clear()

    # Disks and lives

    def do_slow(self, name: str) -> None:
        """From now on writes wait for `wrote`."""
        self._world.nodes[NodeId(name)].disk.is_slow = True

    def do_wrote(self, name: str, count: str = "1") -> None:
        """`wrote a 2`: the oldest two writes become durable."""
        for _ in range(int(count)):
            self._world.write(NodeId(name))

    def do_crash(self, name: str) -> None:
        self._world.crash(NodeId(name))

    def do_wipe(self, name: str) -> None:
        """`wipe a`: replace the disk of a crashed node by an empty one."""
        self._world.wipe(NodeId(name))

    def do_restart(self, name: str, how: str = "") -> None:
        """`restart a [recovering]`."""
        self._world.restart(NodeId(name), recovering=how == "recovering")

    def do_compact(self, name: str, keep: str) -> None:
        """`compact a 2`: take a snapshot, keep two entries before it."""
        self._world.compact(NodeId(name), int(keep))

    # Requests

    def do_propose(self, name: str, *words: str) -> None:
        """`propose a x y` one batch; `100*x` is a hundred bytes."""
        datas = [_data(word) for word in words]
        self._ask(name, lambda core: core.propose(datas))

    def do_read(self, name: str, context: str) -> None:
        self._ask(name, lambda core: core.read_index(context))

    def do_transfer(self, name: str, to: str = "") -> None:
        """`transfer a [b]`."""
        self._ask(name, lambda core: core.transfer_leadership(NodeId(to) if to else None))

    def do_abdicate(self, name: str) -> None:
        self._ask(name, lambda core: core.abdicate())

    def do_fit(self, name: str, answer: str) -> None:
        """`fit a no`: whether the node could lead."""
        self._ask(name, lambda core: core.set_fit(answer == "yes"))

    def do_member(self, name: str, kind: str, node: str, how: str = "") -> None:
        """`member a add_learner|add_voter|demote|remove d [force]`."""
        change = ConfChange(ConfChangeKind(kind), NodeId(node))
        force = how == "force"
        self._ask(name, lambda core: core.propose_conf_change(change, force=force))

    def do_lost(self, name: str, peer: str) -> None:
        """`lost b a`: b's connection to a broke."""
        self._ask(name, lambda core: core.lost_contact(NodeId(peer)))

    def do_moved(self, name: str, peer: str) -> None:
        """`moved a c`: the snapshot on its way from a to c has come further."""
        self._ask(name, lambda core: core.snapshot_moved(NodeId(peer)))

    def do_unreachable(self, name: str, peer: str) -> None:
        self._ask(name, lambda core: core.unreachable(NodeId(peer)))

    # Looking

    def do_show(self, names: str = "all") -> None:
        """A line a node: role, term, vote, log."""
        for node in self._nodes(names):
            status = self._core(node).status()
            self._tell(
                f"{node} {status.role.value} term={status.term} vote={status.vote or '-'} "
                f"leader={status.leader or '-'} log={status.first_index}..{status.last_index} "
                f"durable={status.durable_index} commit={status.commit} applied={status.applied}"
                + (" recovering" if status.recovering else "")
                + (" removed" if status.removed else "")
            )

    def do_timers(self, names: str = "all") -> None:
        """Ticks since each node's election timer was reset."""
        for node in self._nodes(names):
            self._tell(f"{node} elapsed={self._core(node).status().election_elapsed}")

    def do_peers(self, name: str) -> None:
        """A line a peer: what the leader knows of it."""
        for peer in self._core(NodeId(name)).status().peers:
            self._tell(f"{peer.id} {peer.state.value} match={peer.match} next={peer.next}")

    def do_members(self, name: str) -> None:
        conf = self._core(NodeId(name)).status().conf
        removed = f" removed={','.join(conf.removed)}" if conf.removed else ""
        self._tell(f"voters={','.join(conf.voters)} learners={','.join(conf.learners)}{removed}")

    def do_disk(self, name: str) -> None:
        """What is durable."""
        disk = self._world.nodes[NodeId(name)].disk
        self._tell(
            f"term={disk.hard_state.term} vote={disk.hard_state.vote or '-'} "
            f"commit={disk.hard_state.commit} pending={len(disk.pending)} "
            f"entries=[{' '.join(describe_entry(entry) for entry in disk.entries)}]"
        )

    # Words

    def _core(self, node: NodeId) -> RaftCore:
        return self._world.nodes[node].running

    def _ask(self, name: str, request: Callable[[RaftCore], object]) -> None:
        answer = self._world.ask(NodeId(name), request)
        if isinstance(answer, MeshswarmError):
            raise answer

    def _nodes(self, names: str) -> list[NodeId]:
        if names == "all":
            return [node.id for node in self._world.alive()]
        return [NodeId(name) for name in names.split(",")]

    def _links(self, words: tuple[str, ...]) -> Iterator[tuple[NodeId, NodeId]]:
        names = [NodeId(word) for word in words]
        if len(names) == 1 and "->" in names[0]:
            sender, target = names[0].split("->")
            yield NodeId(sender), NodeId(target)
            return
        others = names[1:] or [node for node in self._world.nodes if node != names[0]]
        for other in others:
            yield names[0], other
            yield other, names[0]

    def _picked(self, words: tuple[str, ...]) -> list[Message]:
        picked = list(self._world.wire)
        for word in words:
            if "->" in word:
                sender, target = word.split("->")
                picked = [
                    message
                    for message in picked
                    if sender in ("", message.from_) and target in ("", message.to)
                ]
            elif word == "last":
                picked = picked[-1:]
            else:
                picked = [message for message in picked if type(message).__name__ == word]
        return picked


def _data(word: str) -> bytes:
    count, star, unit = word.partition("*")
    return unit.encode() * int(count) if star else word.encode()
