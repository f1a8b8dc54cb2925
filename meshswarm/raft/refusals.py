"""Why the core would not take a request; nothing was done, and all are `Unavailable`."""

from meshswarm.errors import Unavailable
from meshswarm.ids import NodeId


class NotLeader(Unavailable):
    """Only the leader takes this request; `leader` is who leads, as far as this node knows."""

    def __init__(self, *, leader: NodeId | None) -> None:
        told = "no leader is known" if leader is None else f"`{leader}` leads"
        super().__init__(
            f"this node does not lead the cluster: {told}",
            hint="see who leads with `meshswarm cluster status`",
        )
        self.leader = leader


class ProposalRefused(Unavailable):
    """The leader cannot take this request now; `reason` says why."""

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"the leader refused the request: {reason}", hint=hint)
        self.reason = reason


class ConfChangeRefused(ProposalRefused):
    """This change of the membership does not fit what the cluster is now."""
