"""The fake keeps the contract of the real runtimes, as far as it has something behind it."""

import pytest

from meshswarm.agent.runtimes.fake import FakeRuntime
from meshswarm.agent.runtimes.port import LogLine, Runtime
from tests.agent.ground import T1, Ground
from tests.agent.runtime_contract import RuntimeContract


class FakeGround(Ground):
    def __init__(self) -> None:
        self.fake = FakeRuntime(lambda: 1_000)

    def runtime(self) -> Runtime:
        return self.fake


class TestFakeRuntime(RuntimeContract):
    @pytest.fixture
    def ground(self) -> Ground:
        return FakeGround()

    async def stands_ready(self, ground: Ground, runtime: Runtime) -> None:
        assert isinstance(runtime, FakeRuntime)
        runtime.stubborn.add(T1)
        runtime.written[T1].append(LogLine(stream="stdout", text="ready", at_ms=None))
        await super().stands_ready(ground, runtime)

    def path_of(self, ground: Ground) -> str:
        return "/tmp"

    async def says(self, runtime: Runtime, text: str) -> None:
        assert isinstance(runtime, FakeRuntime)
        assert ("SIGHUP", T1) in runtime.calls
