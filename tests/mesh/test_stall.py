"""A loop that stalls while its peers go on and then vanish: the process outlives it."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zmq

from meshswarm.mesh import keys
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.frames import Type
from meshswarm.mesh.limits import MeshLimits
from tests.mesh.meeting import frames_of, name_of, peer_of, push, stranger

ROOT = Path(__file__).parents[2]
STALLED_S = 3.5
"""Longer than three of the heartbeats that libzmq once sent here, a second each."""


async def stall() -> None:
    """Fill the queue of an endpoint whose loop does not read, and leave."""
    own, pair = keys.generate(), keys.generate()
    endpoint = Endpoint(
        own,
        name="server",
        incarnation=1,
        listen="127.0.0.1:0",
        peers=[peer_of(pair, "asker")],
        limits=MeshLimits(listener_queue=2),
    )
    async with endpoint.opened():
        with stranger(endpoint.address, own.public, pair, name_of(pair)) as raw:
            await push(raw, frames_of(Type.HELLO))
            payload = bytes(1 << 16)
            while raw.poll(200, zmq.POLLOUT):
                raw.send_multipart([payload], zmq.NOBLOCK)
        time.sleep(STALLED_S)  # noqa: ASYNC251 -- a stalled loop is the point
        await asyncio.sleep(0.5)


@pytest.mark.slow
def test_a_peer_that_vanishes_while_the_loop_stalls_does_not_abort_the_process() -> None:
    """libzmq's own heartbeats fail an assertion then (its issues 3937, 4364 and 4767)."""
    script = "import asyncio; from tests.mesh.test_stall import stall; asyncio.run(stall())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
