"""Members that may have forgotten what they said: they hold nothing, or know that they lost data.

A node that holds nothing cannot know whether it is new or was wiped. It may have voted, in any
term, and acknowledged entries on which another leader counts. So its word is not part of any
majority until a leader vouches for it (`leading`). But where *all* members say the same there is
nobody left who could count on what was forgotten: no leader of a newer term, for it is one of them
and would refuse; no committed entry that the candidate lacks, for of the majority that held it
somebody remembers. (Learners are asked, too, for one may have been a voter, and not know better.)
So new clusters begin: all founders hold nothing, and all grant that to one.
"""

from collections.abc import Set

from meshswarm.ids import NodeId
from meshswarm.raft import quorum
from meshswarm.raft.quorum import VoteResult
from meshswarm.raft.state import Campaign, RaftState


def all_suffice(state: RaftState, forgetful: Set[NodeId]) -> bool:
    """Whether the word of all members counts, though these may have forgotten something.

    At the founding: nobody knows of anything that is committed. Afterwards only if most voters
    remember, and nobody was ever removed: such a one may not know it yet, and be elected by those
    who were the voters before, with what was forgotten.
    """
    conf = state.conf
    are_few = len(forgetful & set(conf.voters)) < quorum.majority_of(len(conf.voters))
    return state.log.committed == 0 or (are_few and not conf.removed)


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
