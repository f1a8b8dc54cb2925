"""Listings of configs and secrets that are followed: what differs comes, contents do not."""

from pathlib import Path

import pytest

from meshswarm.client import connected
from meshswarm.cluster import service
from meshswarm.errors import Invalid
from meshswarm.mesh import keys
from meshswarm.mesh.peers import Lane, Peer, PeerRole
from meshswarm.model.file import FileKind, FileUse
from meshswarm.store.commands import PutConfig, PutService, RemoveConfig
from tests.support.builders import service_spec
from tests.support.managers import managers


async def test_a_listing_that_is_followed_comes_anew_whenever_it_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FILES_GATHER_S", 0.0)
    own = keys.generate()
    client_peer = Peer(name="me", role=PeerRole.CLIENT, public_key=own.public)
    async with managers(tmp_path, 1, clients=(client_peer,)) as cluster:
        await cluster.leads()
        addresses = [member.peer for member in cluster.members]
        async with connected(own, name="me", managers=addresses) as client:
            listings = client.watch_files(FileKind.CONFIG)
            assert [] == await anext(listings)
            await client.propose(PutConfig(name="motd", data=b"hello"))
            [row] = await anext(listings)
            assert ("motd", 5, ()) == (row.name, row.bytes, row.users)
            uses = (FileUse(kind=FileKind.CONFIG, source="motd", target="x"),)
            await client.propose(PutService(spec=service_spec("other")))
            await client.propose(PutService(spec=service_spec("web", files=uses)))
            [row] = await anext(listings)
            assert ("web",) == row.users, "another service, and tasks, are no news"
            await client.propose(PutConfig(name="more", data=b""))
            assert ["more", "motd"] == [row.name for row in await anext(listings)]
            await client.propose(RemoveConfig(name="more"))
            assert ["motd"] == [row.name for row in await anext(listings)]
            await listings.aclose()
            with pytest.raises(Invalid, match="of configs or secrets"):
                await client._call(Lane.DATA, "files", {"kind": "keys"})
