"""What every test gets: coroutines run in asyncio's debug mode, hypothesis profiles, the engine."""

import asyncio
import inspect
import os

import hypothesis
import pytest

from tests.support import docker_engine, rig

hypothesis.settings.register_profile("dev", max_examples=50, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=300, deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test in a loop of its own; its resources are `async with` inside it."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(pyfuncitem.obj(**arguments), debug=True)
    return True


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test of an engine, of hosts, or of hosts with engines meets them, or says why not."""
    if item.get_closest_marker("docker"):
        docker_engine.require()
    if item.get_closest_marker("chaos"):
        rig.require()
    if item.get_closest_marker("engines"):
        rig.require(engines=True)
