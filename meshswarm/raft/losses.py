"""Members that may have forgotten what they said: they hold nothing, or know that they lost data.

A node that holds nothing cannot know whether it is new or was wiped. It may have voted, in any
term, and acknowledged entries on which another leader counts. So its word is not part of any
majority until a leader vouches for it (`leading`). But where *all* members say the same there is
nobody left who could count on what was forgotten: no leader of a newer term, for it is one of them
and would refuse; no committed entry that the candidate lacks, for of the majority that held it
somebody remembers. So new clusters begin: all founders hold nothing, and all grant that to one.
"""

from collections.abc import Iterator, Set

from meshswarm.ids import NodeId
from meshswarm.raft import confchange, quorum
from meshswarm.raft.quorum import VoteResult
from meshswarm.raft.refusals import ConfChangeRefused
from meshswarm.raft.state import Campaign, RaftState
from meshswarm.raft.types import ConfState


def all_suffice(state: RaftState, forgetful: Set[NodeId]) -> bool:
    """Whether the word of all members counts, though these may have forgotten something.

    At the founding: nobody knows of anything that is committed. Afterwards only if somebody in each
    majority remembers: in those of the founders, and of a change that this log holds. Where the
    voters were changed before, majorities of then may consist of the forgetful alone, and what they
    did, or their messages that are still on the way, may contradict.
    """
    if state.log.committed == 0:
        return True
    if not state.conf.has_founders:
        return False
    return all(
        len(forgetful & set(conf.voters)) < quorum.majority_of(len(conf.voters))
        for conf in _possible_confs(state)
    )


def _possible_confs(state: RaftState) -> Iterator[ConfState]:
    """The members, and who they are once the change is applied that comes next in this log."""
    yield state.conf
    index = state.log.unapplied_conf_change
    if index is not None:
        (entry,) = state.log.slice(index, index, max_entries=1, max_bytes=1)
        change = confchange.decode(entry.data)
        try:
            yield confchange.changed(state.conf, change)
        except ConfChangeRefused:
            return  # it will change nothing


def vote_result(state: RaftState, race: Campaign) -> VoteResult:
    """Whether the votes decide the election: those of a majority that remembers, or of all."""
    conf, votes, forgetful = state.conf, race.votes, race.forgetful
    granted = {node for node in conf.members if votes.get(node)}
    if len(granted) == len(conf.members) and all_suffice(state, forgetful):
        return VoteResult.WON
    refused = {node for node in votes if not votes[node]}
    undecided = forgetful if not refused else set()  # they may yet be part of all
    counted = {
        node: votes[node] and node not in forgetful for node in votes if node not in undecided
    }
    return quorum.vote_result(conf.voters, counted)
