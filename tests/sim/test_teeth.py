"""The checkers bite: each of these mistakes, made on purpose, is found within a few seeds.

A mistake that is found no longer means that the world has become too tame for it. They stand in
`mutants/`, each a classic; what it does wrong is its docstring.
"""

import re
from collections.abc import Callable

import pytest
from attrs import frozen

from meshswarm.sim.faults import Fault
from meshswarm.sim.run import Result, run
from tests.sim.mutants import clients, disks, elections, logs, losses, members, tasks

SEEDS = 60
"""Within so many seeds every mistake must show."""

TROUBLE_MS = 60_000

Mistake = Callable[[pytest.MonkeyPatch], None]

CUTS = (Fault.ISOLATE, Fault.SPLIT, Fault.UNLINK, Fault.ONE_WAY)
CHANGES = (Fault.MEMBERS, Fault.SPLIT, Fault.ISOLATE, Fault.CRASH, Fault.HAND_OVER)
LOST = "without committed|commits .*, another"
STALE = "misses what was acknowledged|not linearizable|were committed before"


@frozen
class Bite:
    """How a mistake shows: `words` of the violation, the trouble that brings it out (None: any)."""

    mistake: Mistake
    words: str
    kinds: tuple[Fault, ...] | None = None
    managers: int = 3

    def runs(self, seed: int) -> Result:
        """One seed with the mistake made."""
        return run(
            seed,
            safety_ms=TROUBLE_MS,
            kinds=self.kinds,
            managers=self.managers,
            is_bare=self.mistake.__module__ != tasks.__name__,
        )


BITES = (
    Bite(disks.tells_its_vote_early, "tells its vote"),
    Bite(disks.runs_early, "tells its vote"),
    Bite(disks.acknowledges_early, "acknowledges entry"),
    Bite(disks.forgets_its_vote, "tells its vote"),
    Bite(disks.does_not_sync, "tells its vote|acknowledges entry"),
    Bite(disks.counts_itself_early, "only .* hold", (Fault.SLOW_DISK, Fault.STALL)),
    Bite(disks.votes_although_it_lost, "without committed", (Fault.DAMAGE, *CUTS)),
    Bite(disks.votes_although_it_is_blank, LOST, (Fault.WIPE, *CUTS)),
    Bite(disks.leaves_members_out, "right is", CHANGES),
    Bite(disks.leaves_requests_out, "another state"),
    Bite(disks.takes_an_older_state, "another state|applies|view is at"),
    Bite(elections.votes_for_anyone, LOST, (Fault.PAUSE, Fault.CRASH, Fault.ISOLATE)),
    Bite(elections.votes_again, "durable, and now|votes for"),
    Bite(elections.takes_wishes_for_votes, "leads term .* by|lead term"),
    Bite(elections.wins_by_half, "leads term .* by|lead term"),
    Bite(elections.commits_old_terms, "commits an entry of", CUTS),
    Bite(elections.commits_by_the_fastest, "only .* (hold|did)", CUTS, managers=5),
    Bite(
        elections.counts_old_acknowledgements,
        "and was told|only .* hold",
        (Fault.CLOG, Fault.HAND_OVER),
    ),
    Bite(elections.tells_commits_to_laggards, "commits|no leader", (Fault.STORM, *CUTS)),
    Bite(elections.deposed_leader_goes_on, "lead term|two leaders|was told", CUTS),
    Bite(
        elections.transfers_to_laggards,
        "without committed",
        (Fault.HAND_OVER, Fault.CLOG, Fault.SLOW_DISK, *CUTS),
    ),
    Bite(logs.keeps_what_conflicts, "the leader holds|than others|another did", CUTS),
    Bite(
        logs.cuts_what_matches,
        "which is committed|acknowledges entry",
        (Fault.STORM, Fault.CLOG),
    ),
    Bite(logs.does_not_look_back, "than others|the leader holds|follows|holds", CUTS),
    Bite(logs.believes_the_commit_index, "commits|it is committed", CUTS),
    Bite(
        logs.vouches_for_what_was_cut,
        "only .* hold|the leader holds|than others",
        (Fault.SLOW_DISK, *CUTS),
    ),
    Bite(logs.sends_without_a_window, "on their way to"),
    Bite(logs.takes_without_a_limit, "bytes uncommitted", CUTS),
    Bite(logs.packs_without_a_limit, "in one append"),
    Bite(losses.founds_without_all, LOST, (Fault.WIPE, *CUTS)),
    Bite(losses.counts_who_recovers, "commits .*, another", (Fault.WIPE,)),
    Bite(losses.vouches_at_once, "commits .*, another", (Fault.WIPE,)),
    Bite(losses.recovers_unvouched, "commits .*, another", (Fault.WIPE,)),
    Bite(losses.confirms_reads_although_it_lost, STALE, (Fault.WIPE,)),
    Bite(losses.commits_what_was_lost, "commits .*, another", (Fault.WIPE,)),
    Bite(
        members.changes_overlap,
        "only .* hold|right is|is committed",
        (Fault.MEMBERS, Fault.SPLIT, Fault.ISOLATE),
        managers=5,
    ),
    Bite(members.commits_past_a_change, "past the change", (Fault.MEMBERS, Fault.SLOW_DISK)),
    Bite(members.changes_too_early, "right is", CHANGES),
    Bite(members.forgets_the_commit_index, "not that .* is committed|becomes", CHANGES),
    Bite(clients.reads_what_is_there, STALE, CUTS),
    Bite(clients.leader_reads_locally, STALE, (Fault.ISOLATE,)),
    Bite(clients.reads_before_it_commits, STALE, (Fault.CRASH, Fault.SLOW_DISK)),
    Bite(clients.reads_by_old_answers, "confirms a read"),
    Bite(clients.reads_by_two, "confirms a read", CUTS, managers=5),
    Bite(
        clients.keeps_reads_without_a_limit,
        "keeps .* reads",
        (Fault.CLOG, Fault.STORM, Fault.PAUSE),
    ),
    Bite(clients.reads_before_it_applies, STALE),
    Bite(clients.repeats_requests, "again|was told|expected"),
    Bite(clients.forgets_answers, "was told|expected|again"),
    Bite(clients.answers_before_commit, "not in the log"),
    Bite(clients.gives_up_as_not_done, "not linearizable", (Fault.CRASH, Fault.ONE_WAY)),
    Bite(clients.applies_as_it_likes, "than others"),
    Bite(clients.skips_an_entry, "than others|of what is|says"),
    Bite(tasks.believes_a_stale_manager, "meant to run|still runs|not whole"),
    Bite(
        tasks.forgets_what_it_finds,
        "which has no row",
        (Fault.CRASH, Fault.STUBBORN, Fault.RUNTIME_FAILS),
    ),
    Bite(tasks.lets_time_stand, "not whole"),
    Bite(tasks.starts_successors_at_once, "still runs"),
)


@pytest.mark.slow
@pytest.mark.timeout(180)  # a rare mistake takes dozens of seeds, and CI is not alone
@pytest.mark.parametrize("bite", BITES, ids=lambda bite: bite.mistake.__name__)
def test_a_mistake_is_found(monkeypatch: pytest.MonkeyPatch, bite: Bite) -> None:
    bite.mistake(monkeypatch)
    found = (bite.runs(seed).violation for seed in range(1, SEEDS + 1))
    assert re.search(bite.words, next((one for one in found if one is not None), "nothing found"))


def test_every_mistake_has_its_bite() -> None:
    made = {
        mistake
        for room in (clients, disks, elections, logs, losses, members, tasks)
        for name, mistake in vars(room).items()
        if getattr(mistake, "__module__", "") == room.__name__ and mistake.__doc__
    }
    assert made == {bite.mistake for bite in BITES}
