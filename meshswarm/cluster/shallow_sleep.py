"""Idle processors sleep shallowly while one write follows the other.

A write alone wakes a dozen threads one after the other, on three hosts, and each may find its
processor asleep. Waking up takes 2 to 10 us from the shallow idle states of a real processor, more
than 100 from deep ones; a virtual one that halts is given back to its host, for 30 to 50. Linux
lets a program say what it can bear: whoever holds `/dev/cpu_dma_latency` open has that word, and it
is withdrawn with the descriptor, by kill -9 too ("PM Quality of Service Interface" in the kernel's
documentation).

It costs power, and on a virtual machine time of its host. So nothing is asked for while little is
done, nor by whoever was told not to (`[raft] shallow_sleep`) or may not (it takes root).
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("meshswarm.cluster")

DEVICE = Path("/dev/cpu_dma_latency")

IDLE_DRIVER = Path("/sys/devices/system/cpu/cpuidle/current_driver")

SHALLOW_US = 10
"""Leaves a real processor its shallow idle states (C1, C1E)."""

NONE_US = 0
"""Leaves none: an idle processor goes round in a loop. A virtual one halts in every other state."""

LOOK_S = 0.1

BUSY_PER_S = 200
"""So many entries and reads in a second count as following each other."""


def is_busy(done: int, in_s: float) -> bool:
    """Whether so many entries and reads in so many seconds leave processors no time for sleep."""
    return done >= BUSY_PER_S * in_s


def bearable_us(idle_driver: str) -> int:
    """What waking up may take, in microseconds, where idleness is the matter of this driver."""
    return NONE_US if idle_driver == "haltpoll" else SHALLOW_US


class ShallowSleep:
    """Looks every `LOOK_S` what was `done` since the start, and asks Linux accordingly."""

    def __init__(
        self, done: Callable[[], int], *, device: Path = DEVICE, idle_driver: Path = IDLE_DRIVER
    ) -> None:
        self._done = done
        self._device = device
        self._idle_driver = idle_driver
        self._descriptor: int | None = None

    @property
    def is_asked_for(self) -> bool:
        """Whether this process has Linux keep idle processors from deep sleep now."""
        return self._descriptor is not None

    async def run(self) -> None:
        """Look until cancelled, or until it turns out that this process may not ask."""
        before = self._done()
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                now = self._done()
                self.look(now - before, LOOK_S)
                before = now
        except OSError as error:
            log.info("idle processors sleep as deep as they like: %s", error)
        finally:
            self._withdraw()

    def look(self, done: int, in_s: float) -> None:
        """So much was done in the last so many seconds. Raises `OSError` if it may not ask."""
        if not is_busy(done, in_s):
            self._withdraw()
        elif self._descriptor is None:
            self._descriptor = self._asked()

    def _asked(self) -> int:
        try:
            driver = self._idle_driver.read_text().strip()
        except OSError:
            driver = ""  # a kernel without such drivers
        descriptor = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, bearable_us(driver).to_bytes(4, sys.byteorder))
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _withdraw(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
