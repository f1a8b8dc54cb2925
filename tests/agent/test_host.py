"""What a node finds on its host: the addresses by which the managers may know it."""

import asyncio

import pytest

from meshswarm.agent import host


async def test_a_host_is_known_by_the_addresses_of_its_ways_to_the_managers() -> None:
    ways = ["127.0.0.1:4747", "127.0.0.1:4748", "[::1]:4747"]
    assert ("127.0.0.1", "::1") == await host.addresses_towards(ways)
    assert () == await host.addresses_towards([])


async def test_a_manager_without_an_address_or_a_way_to_it_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: object, **__: object) -> list[object]:
        raise OSError("no such name")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", refuse)
    ways = ["n1.example:4747", "[fe80::1]:4747", "127.0.0.1:1"]
    assert ("127.0.0.1",) == await host.addresses_towards(ways)


async def test_a_name_that_does_not_resolve_in_time_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(*_: object, **__: object) -> list[object]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(host, "RESOLVE_TIMEOUT_S", 0.0)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hang)
    assert () == await host.addresses_towards(["n1.example:4747"])
