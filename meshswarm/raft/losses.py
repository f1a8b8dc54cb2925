"""Voters that may have forgotten what they said: they hold nothing, or know that they lost data.

A node that holds nothing cannot know whether it is new or was wiped. It may have voted, in any
term, and acknowledged entries on which another leader counts. So its word is not part of any
majority until a leader vouches for it (`leading`). But where *all* voters say the same there is
nobody left who could count on what was forgotten: no leader of a newer term, for it is one of them
and would refuse; no committed entry that the candidate lacks, for of the majority that held it
somebody remembers. So new clusters begin: all founders hold nothing, and all grant that to one.
"""

from collections.abc import Set

from meshswarm.ids import NodeId
from meshswarm.raft import confchange, quorum
from meshswarm.raft.quorum import VoteResult
from meshswarm.raft.refusals import ConfChangeRefused
from meshswarm.raft.state import Campaign, RaftState
from meshswarm.raft.types import ConfState


def are_all(state: RaftState, said: Set[NodeId], forgetful: Set[NodeId]) -> bool:
    """Whether these, who say the same, are all whose word is needed, some of them forgetful.

    At the founding, when nobody knows of anything that is committed: all founders. Afterwards all
    voters, those of the change included that this log holds, if somebody in each majority of theirs
    remembers. But not where the voters were changed before: majorities of then may consist of the
    forgetful alone, and what they did, or their messages that are still on the way, may contradict.
    """
    confs = _possible_confs(state)
    if not all(said >= set(conf.voters) for conf in confs):
        return False
    return state.log.committed == 0 or (
        state.conf.has_founders
        and all(
            len(forgetful & set(conf.voters)) < quorum.majority_of(len(conf.voters))
            for conf in confs
        )
    )


def _possible_confs(state: RaftState) -> list[ConfState]:
    """The members, and who they are once the change is applied that comes next in this log."""
    index = state.log.unapplied_conf_change
    if index is None:
        return [state.conf]
    (entry,) = state.log.slice(index, index, max_entries=1, max_bytes=1)
    try:
        return [state.conf, confchange.changed(state.conf, confchange.decode(entry.data))]
    except ConfChangeRefused:
        return [state.conf]  # it will change nothing


def vote_result(state: RaftState, race: Campaign) -> VoteResult:
    """Whether the votes decide the election: those of a majority that remembers, or of all."""
    votes, forgetful = race.votes, race.forgetful
    refused = {node for node in votes if not votes[node]}
    if are_all(state, votes.keys() - refused, forgetful):
        return VoteResult.WON
    undecided = forgetful if not refused else set()  # they may yet be part of all
    counted = {
        node: votes[node] and node not in forgetful for node in votes if node not in undecided
    }
    return quorum.vote_result(state.conf.voters, counted)
