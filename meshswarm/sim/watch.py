"""The change feed inside a manager: `cluster.hub` retold."""

from meshswarm.sim.clock import Bell, Life
from meshswarm.store.view import Key, View


class Watch:
    """One watcher's place in the change feed."""

    def __init__(self, life: Life, view: View) -> None:
        self.bell = Bell(life)
        self.bell.ring()
        self._view = view
        self._keys: frozenset[Key] | None = None

    def take(self) -> tuple[View, frozenset[Key] | None]:
        """The newest view, and the keys that changed since the last call; None: look at all."""
        self.bell.clear()
        keys, self._keys = self._keys, frozenset()
        return self._view, keys

    def tell(self, view: View, changed: frozenset[Key] | None) -> None:
        """Note a newer view."""
        self._view = view
        unknown = changed is None or self._keys is None
        self._keys = None if unknown else (self._keys or frozenset()) | (changed or frozenset())
        self.bell.ring()
