"""What happened, as a hash of everything and as lines for a reader."""

import hashlib
from collections import Counter
from collections.abc import Callable

from meshswarm.sim.clock import Clock

Listener = Callable[[str], None]

FOLD_LINES = 4_096
"""So many are hashed together; one by one costs more than what they tell of."""


class Violation(Exception):
    """Something happened that must never happen."""


class Trace:
    """One run's account; `listener` gets the lines as they come."""

    def __init__(self, clock: Clock, listener: Listener | None = None) -> None:
        self.counts: Counter[str] = Counter()
        """How often what happened: `crash`, `ack`, `election`, ..."""
        self._clock = clock
        self._listener = listener
        self._hash = hashlib.blake2b(digest_size=16)
        self._unhashed: list[str] = []

    @property
    def digest(self) -> str:
        """A text that is equal for equal runs, and only for those."""
        self._fold()
        return self._hash.hexdigest()

    def _fold(self) -> None:
        self._hash.update("".join(self._unhashed).encode())
        self._unhashed.clear()

    def passes(self, from_: str, to: str, what: str) -> None:
        """A message arrived: goes into the hash, but is no news."""
        self._unhashed.append(f"{self._clock.now_ms} {from_} {to} {what}\n")
        if len(self._unhashed) > FOLD_LINES:
            self._fold()

    def tell(self, kind: str, text: str) -> None:
        """Something worth reading happened."""
        self.counts[kind] += 1
        line = f"{self._clock.now_ms / 1_000:10.3f}  {kind:<10} {text}"
        self._unhashed.append(line)
        if self._listener is not None:
            self._listener(line)
