"""A node that also takes membership changes over the mesh: `... changeable node start ...`.

No part of the product, whose own commands for it come later: a call is added to the seat in this
one process, and the command line is run. `change` asks for a change.
"""

import sys
import time

from meshswarm.cli.main import main
from meshswarm.cluster.seat import Seat
from meshswarm.cluster.service import USERS
from meshswarm.errors import Invalid
from meshswarm.ids import NodeId
from meshswarm.mesh import keys
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.peers import Lane, Peer
from meshswarm.mesh.requests import Reply, Request
from meshswarm.raft.types import ConfChange, ConfChangeKind
from meshswarm.settings import ClientContext

CHANGE = "chaos.change"
TIMEOUT_S = 2.0


async def change(context: ClientContext, manager: Peer, kind: ConfChangeKind, node: NodeId) -> None:
    """Ask that manager for the change; raises what it raises, `NotLeader` among it."""
    pair = keys.load(context.client.key_file)
    incarnation = time.time_ns() // 1_000_000
    async with Endpoint(pair, name=context.client.name, incarnation=incarnation).opened() as own:
        body = [kind.value, node]
        await own.link(manager).call(Lane.CONTROL, CHANGE, body, timeout_s=TIMEOUT_S)


def add_call() -> None:
    """Let every seat of this process take the call."""
    init = Seat.__init__

    def init_and_listen(self: Seat, *arguments: object) -> None:
        init(self, *arguments)  # type: ignore[arg-type]  # passed on as they came
        endpoint = next(part for part in arguments if isinstance(part, Endpoint))

        async def begin(request: Request) -> Reply:
            match request.body:
                case [str() as kind, str() as node]:
                    self.driver.change_members(ConfChange(ConfChangeKind(kind), NodeId(node)))
                    return Reply()
                case _:
                    raise Invalid("a change is [kind, node]")

        endpoint.on_call(CHANGE, begin, roles=USERS)

    Seat.__init__ = init_and_listen  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    add_call()
    sys.exit(main())
