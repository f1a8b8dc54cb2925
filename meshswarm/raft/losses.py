"""Voters that may have forgotten what they said: they hold nothing, or know that they lost data.

A node that holds nothing cannot know whether it is new or was wiped. It may have voted, in any
term, and acknowledged entries on which another leader counts. So its word is not part of any
majority until a leader vouches for it (`leading`). But where *all* voters say the same there is
nobody left who could count on what was forgotten: no leader of a newer term, for it is a voter and
would refuse; no committed entry that the candidate lacks, for of the majority that held it somebody
remembers. So new clusters begin: all founders hold nothing, and all grant that to one.
"""

from meshswarm.raft import quorum
from meshswarm.raft.quorum import VoteResult
from meshswarm.raft.state import Campaign, RaftState


def all_suffice(state: RaftState, forgetful: int) -> bool:
    """Whether the word of all voters counts, though so many of them may have forgotten something.

    At the founding: nobody knows of anything that is committed. Afterwards only if they are a
    minority, and if the voters are all members that there ever were: one that was removed, or
    demoted, may not know it yet, and be elected by the voters before it, with what was forgotten.
    """
    conf, log = state.conf, state.log
    if log.unapplied_conf_change is not None:
        return False
    are_all = len(conf.members) == len(conf.voters) and not conf.removed
    are_few = forgetful < quorum.majority_of(len(conf.voters))
    return log.committed == 0 or (are_all and are_few)


def vote_result(state: RaftState, race: Campaign) -> VoteResult:
    """Whether the votes decide the election: those of a majority that remembers, or of all."""
    voters = state.conf.voters
    votes = {voter: race.votes[voter] for voter in voters if voter in race.votes}
    forgetful = race.forgetful & votes.keys()
    if not all(votes.values()):
        votes = {voter: granted and voter not in forgetful for voter, granted in votes.items()}
    elif len(votes) == len(voters) and all_suffice(state, len(forgetful)):
        return VoteResult.WON
    else:
        votes = {voter: True for voter in votes if voter not in forgetful}
    return quorum.vote_result(voters, votes)
