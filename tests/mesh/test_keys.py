from pathlib import Path

import pytest

from meshswarm.errors import Conflict, Corrupt, Denied, MeshswarmError, NotFound
from meshswarm.ids import NodeId
from meshswarm.mesh import keys
from meshswarm.mesh.peers import Peer, PeerRole


def test_a_saved_key_pair_is_loaded_again(tmp_path: Path) -> None:
    pair = keys.generate()
    keys.save(pair, tmp_path / "node.key")
    assert pair == keys.load(tmp_path / "node.key")
    assert 0o600 == (tmp_path / "node.key").stat().st_mode & 0o777


def test_an_identity_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    keys.save(keys.generate(), path)
    before = path.read_bytes()
    with pytest.raises(Conflict):
        keys.save(keys.generate(), path)
    assert before == path.read_bytes()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "node.key"
    keys.save(keys.generate(), path)
    path.chmod(mode)
    with pytest.raises(Denied, match=f"chmod 600 {path}"):
        keys.load(path)


def test_a_missing_key_file_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="config init"):
        keys.load(tmp_path / "absent.key")


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MeshswarmError, match="cannot write"):
        keys.save(keys.generate(), tmp_path / "absent" / "node.key")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"not toml",
        b"public = 1\nsecret = 2\n",
        b'public = "x"\nsecret = "y"\n',
        b"#" * 5000,
        'public = "é"\nsecret = "é"\n'.encode(),
        f'public = "{keys.generate().public.decode()}"\n'
        f'secret = "{keys.generate().secret.decode()}"\n'.encode(),
    ],
)
def test_what_is_no_key_file_is_corrupt(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "node.key"
    path.touch(mode=0o600)
    path.write_bytes(text)
    with pytest.raises(Corrupt):
        keys.load(path)


def test_a_key_pair_does_not_show_its_secret() -> None:
    pair = keys.generate()
    assert pair.secret.decode() not in repr(pair)


def test_a_peer_owns_its_id() -> None:
    pair = keys.generate()
    assert pair.id == Peer(name="a", role=PeerRole.WORKER, public_key=pair.public).id
    with pytest.raises(MeshswarmError, match="its key stands for"):
        Peer(name="a", role=PeerRole.WORKER, public_key=pair.public, id=NodeId("other"))
    with pytest.raises(MeshswarmError, match="not an address"):
        Peer(name="a", role=PeerRole.WORKER, public_key=pair.public, address="host:0")
    with pytest.raises(MeshswarmError, match="40 characters"):
        Peer(name="a", role=PeerRole.WORKER, public_key=b"short")
