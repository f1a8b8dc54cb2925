"""Whatever a peer says to a manager, a handler answers, refuses or ignores it; none fails.

`targets.py` has the readers that are functions of bytes; the bodies of calls, streams and
notifications are looked at by their handlers, so a real manager gets them, over its own loopback.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from meshswarm.cluster import wire
from meshswarm.errors import MeshswarmError
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.frames import BadFrame
from meshswarm.mesh.peers import Lane, Peer
from tests.support.managers import managers

BODIES = 2_000
WAIT_S = 0.02
"""For an answer or a first chunk; a watch may have none."""

LEFT_OUT = {wire.KIND, "hand_over", "elect"}
"""A target of its own has the first; the others do as they are told."""

NUMBERS = [0, 1, -1, 7, (1 << 63) - 1, (1 << 64) - 1, -(1 << 64), 0.5, float("nan"), float("inf")]
TEXTS = ["", "a", "config", "secret", "entries", "state", "tasks", "revisions", "nodes", "x/1"]
KEYS = [
    *("from", "tail", "follow", "tables", "keys", "node", "kind", "name", "ages_ms", "sessions"),
    *("has_room", "doubts_ms", "sequence", "task", "pipe", "since_ms", "registration", "targets"),
]

Body = Callable[[random.Random], object]


def anything(rng: random.Random, depth: int = 0) -> object:
    """A value of any shape that CBOR holds."""
    pick = rng.randrange(9 if depth < 3 else 5)
    match pick:
        case 0:
            return rng.choice([None, True, False])
        case 1 | 2:
            return rng.choice(NUMBERS)
        case 3:
            return rng.choice(TEXTS)
        case 4:
            return rng.randbytes(rng.randrange(20))
        case 5 | 6:
            return [anything(rng, depth + 1) for _ in range(rng.randrange(6))]
        case _:
            size = rng.randrange(6)
            return {rng.choice(KEYS): anything(rng, depth + 1) for _ in range(size)}


NEARLY: dict[str, Body] = {
    "heard": lambda rng: {
        "ages_ms": {"a": anything(rng, 9)},
        "sessions": {"a": anything(rng, 9)},
        "has_room": anything(rng, 9),
        "doubts_ms": {"a": anything(rng, 9)},
        "sequence": anything(rng, 9),
    },
    "heard.ack": lambda rng: [anything(rng, 9)],
    "fingerprint": lambda rng: ["0", rng.choice(TEXTS), anything(rng, 9), anything(rng, 9)],
    "session.beat": lambda rng: [anything(rng, 9), anything(rng, 9)],
    "log": lambda rng: {"from": anything(rng, 9), "tail": anything(rng, 9), "follow": False},
    "files": lambda rng: {"kind": anything(rng)},
    "rows": lambda rng: {"keys": [[rng.choice(TEXTS), anything(rng)]]},
    "read": lambda rng: {"tables": [anything(rng)]},
    "watch": lambda rng: {"tables": [anything(rng)]},
    "propose": lambda rng: [rng.randbytes(9), [rng.choice(TEXTS), *_three(rng)]],
    "propose.forward": lambda rng: [[rng.choice(TEXTS), *_three(rng)], "by"],
}
"""Bodies of which one part is wrong, or none."""


def _three(rng: random.Random) -> list[object]:
    return [anything(rng, 9) for _ in range(3)]


async def test_no_body_makes_a_handler_fail(tmp_path: Path) -> None:
    rng = random.Random(1)
    async with managers(tmp_path, count=1) as cluster:
        manager = await cluster.leads()
        endpoint, peer = manager.endpoint, manager.peer
        assert endpoint is not None
        site = endpoint._site
        ways = [
            (name, way)
            for way, handlers in (
                (_notify, site.notifies),
                (_call, site.calls),
                (_stream, site.streams),
            )
            for name in sorted(handlers._by_name)
            if name not in LEFT_OUT
        ]
        assert len(ways) > 20
        for _ in range(BODIES):
            name, way = rng.choice(ways)
            nearly = NEARLY.get(name, anything)
            body = nearly(rng) if rng.random() < 0.5 else anything(rng)
            payloads = [rng.randbytes(rng.randrange(9)) for _ in range(rng.randrange(3))]
            await way(endpoint, peer, name, body, payloads)
            assert 0 == endpoint.dropped()["handler_failed"], f"{name} {body!r} {payloads!r}"
        assert (await cluster.leads()) is manager, "it went on all the time"


async def _notify(
    endpoint: Endpoint, peer: Peer, name: str, body: object, payloads: list[bytes]
) -> None:
    endpoint.link(peer).notify(Lane.CONTROL, name, body, payloads)
    await asyncio.sleep(0)


async def _call(
    endpoint: Endpoint, peer: Peer, name: str, body: object, payloads: list[bytes]
) -> None:
    with suppress(MeshswarmError, BadFrame):
        await endpoint.link(peer).call(Lane.CONTROL, name, body, payloads, timeout_s=WAIT_S)


async def _stream(
    endpoint: Endpoint, peer: Peer, name: str, body: object, payloads: list[bytes]
) -> None:
    with suppress(MeshswarmError, TimeoutError, StopAsyncIteration):
        async with endpoint.link(peer).stream(Lane.DATA, name, body, payloads) as chunks:
            async with asyncio.timeout(WAIT_S):
                await anext(chunks)
