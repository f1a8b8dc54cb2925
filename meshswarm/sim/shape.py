"""What kind of cluster a seed makes: its size, its limits, its pace."""

import random

from attrs import evolve, frozen

from meshswarm.control.liveness import FENCE_SLACK_MS, LivenessPolicy

TICK_MS = 50
HEARTBEAT_TICKS = 2
ELECTION_TICKS = 20
"""As the defaults of a manager's settings: heartbeats each 100 ms, elections after 1 to 2 s."""

ELECTION_MS = 2 * ELECTION_TICKS * TICK_MS
"""The longest election timeout."""

BEAT_MS = 1_000
PROPOSAL_MS = 5_000
"""How long one attempt at a proposal or a read may take."""

EPOCH_MS = 1_700_000_000_000
"""The wall clocks' time when a world begins."""


@frozen(kw_only=True)
class Shape:
    """One world's constants."""

    is_bare: bool = False
    """Whether managers only keep a ledger: no agents, no control loop, nothing runs anywhere."""
    managers: int = 3
    """The founders, who vote from the beginning."""
    spares: int = 0
    """Managers that may join and leave later."""
    workers: int = 2
    clients: int = 2
    snapshot_entries: int = 10_000
    trailing_entries: int = 10_000
    max_append_entries: int = 4_096
    """Of Raft: small ones split what would travel together."""
    max_inflight: int = 16
    max_uncommitted_bytes: int = 64 << 20
    max_pending_reads: int = 10_000
    skew_ms: int = 0
    """Wall clocks are wrong by at most so much."""
    drift_ms: int = 0
    """A node's ticks are longer or shorter by at most so much."""
    think_ms: int = 4_000
    """The longest that a user pauses between two requests."""
    has_jobs: bool = False
    """Whether users also ask for jobs, and for services that wait for each other."""
    policy: LivenessPolicy = LivenessPolicy(
        storm_after_ms=15_000,
        storm_pause_ms=2_000,
        flap_window_ms=60_000,
        flap_first_ms=2_000,
        flap_max_ms=16_000,
        fence_ms=ELECTION_MS + FENCE_SLACK_MS,
    )
    """Usual limits of silence; a shorter memory, so that all is seen in a minute of trouble."""

    @property
    def founder_ids(self) -> tuple[str, ...]:
        """The first managers' ids."""
        return self.manager_ids[: self.managers]

    @property
    def manager_ids(self) -> tuple[str, ...]:
        """All managers' ids, founders first."""
        return tuple(f"m{number}" for number in range(1, self.managers + self.spares + 1))

    @property
    def node_ids(self) -> tuple[str, ...]:
        """All nodes' ids, managers first."""
        workers = (f"w{number}" for number in range(1, self.workers + 1))
        return (*self.manager_ids, *workers)

    @property
    def client_ids(self) -> tuple[str, ...]:
        """The users' ids."""
        return tuple(f"c{number}" for number in range(1, self.clients + 1))


def drawn(rng: random.Random, managers: int, *, is_bare: bool) -> Shape:
    """A shape by chance: short logs and small windows are where the bugs are."""
    shape = Shape(
        is_bare=is_bare,
        managers=managers,
        spares=rng.choice((0, 0, 1, 2)),
        workers=0 if is_bare else rng.randrange(3),
        clients=rng.randrange(2, 5) if is_bare else rng.randrange(1, 4),
        snapshot_entries=rng.choice((15, 40, 200)),
        trailing_entries=rng.choice((1, 10, 50)),
        max_append_entries=rng.choice((1, 2, 8, 4_096)),
        max_inflight=rng.choice((1, 3, 16)),
        skew_ms=rng.choice((0, 50, 1_000, 3_600_000)),
        drift_ms=rng.choice((0, 1, 5)),
        think_ms=rng.choice((50, 300, 2_000)) if is_bare else 4_000,
        has_jobs=not is_bare and rng.random() < 0.5,
    )
    if (shape.trailing_entries, shape.max_inflight) == (1, 1):
        return evolve(shape, max_uncommitted_bytes=400, max_pending_reads=1)
    return shape
