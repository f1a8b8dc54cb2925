"""A state that is larger than what one payload may hold is read and followed all the same."""

from pathlib import Path

from meshswarm.client import connected
from meshswarm.mesh import keys
from meshswarm.mesh.limits import DEFAULT_LIMITS
from meshswarm.mesh.peers import Peer, PeerRole
from meshswarm.store.commands import PutConfig
from meshswarm.store.configs import MAX_CONFIG_BYTES
from meshswarm.store.view import Table
from tests.support.managers import managers


async def test_more_than_one_payload_holds_is_read_and_followed(tmp_path: Path) -> None:
    own = keys.generate()
    client_peer = Peer(name="me", role=PeerRole.CLIENT, public_key=own.public)
    count = DEFAULT_LIMITS.payload_bytes_max // MAX_CONFIG_BYTES + 2
    async with managers(tmp_path, 1, clients=(client_peer,)) as cluster:
        await cluster.leads()
        addresses = [member.peer for member in cluster.members]
        async with connected(own, name="me", managers=addresses) as client:
            for number in range(count):
                data = bytes([number]) * MAX_CONFIG_BYTES
                await client.propose(PutConfig(name=f"c{number}", data=data))
            read = await client.read(Table.CONFIGS)
            assert count == len(read.configs)
            views = client.watch(Table.CONFIGS)
            assert read.configs == (await anext(views)).configs
            await views.aclose()
