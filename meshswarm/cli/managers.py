"""What `cluster status` shows: the managers' own words become rows, tables and JSON.

The JSON contract, whose keys are never renamed or removed:

    leader  its name, or null             term  the highest that a manager told
    nodes   one for each manager:
      name, id, address, version, error (why it did not answer; its other values are then null)
      raft_state  Follower | Candidate | Leader | Learner | Disconnected
      leader, leader_id, term, last_index, commit_index, applied_index
      heartbeat_ms, election_timeout_ms, sessions (agents that it serves)
      brake  why the tasks of silent nodes are not replaced, or empty
      unfit_because  why it would not lead now, or null      recovering  it lost part of its log
      diverged_at  up to which entry most of the others saw that its state is not theirs, or null
      differing  by name: where this manager saw another's state differ from its own
      metrics  since its start; times of the last 1,000 events, null before the first:
        fsync_p50_ms, fsync_p99_ms        one group of entries written and synced to its disk
        commit_p50_ms, commit_p99_ms      a command from its append (as leader) until applied
        loop_lag_p99_ms, loop_lag_max_ms  how late its event loop came to its ticks
        elections, leader_changes, snapshot_index, journal_bytes, free_bytes
        dropped  messages not sent or not taken in, by cause, every cause with its count
      mesh   messages_in, messages_out, connections, and what was dropped
      peers  on the leader: name, id, match, next, lag (entries), state, active
    peers   the leader's
"""

from collections.abc import Iterable, Sequence

import attrs

from meshswarm.answers import Answer, ManagerStatus
from meshswarm.cli.rows import plain
from meshswarm.cli.show import Column, Listing, Row

LEADER = "Leader"
"""How a manager that leads names its state."""


def leader_of(answers: Iterable[Answer]) -> ManagerStatus | None:
    """The manager that leads: the one that says so in the highest term."""
    said = [answer.status for answer in answers if answer.status is not None]
    leading = [status for status in said if status.raft_state == LEADER]
    return max(leading, key=lambda status: status.term, default=None)


def without_leader(answers: Iterable[Answer]) -> str:
    """What to say where no manager that leads was reached: who leads all the same, if one knows."""
    said = [answer.status for answer in answers if answer.status is not None]
    heard = [status for status in said if status.leader is not None]
    if said and not any(status.last_index for status in said):
        missing = [answer.name for answer in answers if answer.status is None]
        return "no manager leads yet: a new cluster begins with all its managers" + (
            f", and {', '.join(missing)} did not answer" if missing else ""
        )
    if not heard:
        return "no manager leads: writes are refused until a majority of them can talk"
    newest = max(heard, key=lambda status: status.term)
    return f"{newest.leader} leads, says {newest.name}, but it does not answer here"


def cluster_status(answers: Sequence[Answer]) -> Listing:
    """Every manager with its place in the log; `peers` is what the leader knows of the others."""
    leader = leader_of(answers)
    diverged = _diverged(answers)
    rows = [
        {**_manager_row(answer), "diverged_at": diverged.get(answer.name)} for answer in answers
    ]
    terms = [answer.status.term for answer in answers if answer.status is not None]
    progress = [] if leader is None else [attrs.asdict(peer) for peer in leader.peers]
    return Listing(
        columns=(
            Column("NAME", "name"),
            Column("STATE", lambda row: row["raft_state"] or "Unreachable"),
            Column("TERM", "term"),
            Column("LAST", "last_index"),
            Column("COMMIT", "commit_index"),
            Column("APPLIED", "applied_index"),
            Column("HEARTBEAT", lambda row: _ms(row["heartbeat_ms"]), is_wide=True),
            Column("ELECTION", lambda row: _ms(row["election_timeout_ms"]), is_wide=True),
            Column("SESSIONS", "sessions", is_wide=True),
            Column("VERSION", "version", is_wide=True),
            Column("ADDRESS", "address"),
            Column("ERROR", _trouble),
        ),
        rows=rows,
        document={
            "leader": None if leader is None else leader.name,
            "term": max(terms, default=0),
            "nodes": rows,
            "peers": progress,
        },
    )


def peer_progress(leader: ManagerStatus) -> Listing:
    """How far each peer has got, as the leader sees it."""
    return Listing(
        columns=(
            Column("PEER", "name"),
            Column("MATCH", "match"),
            Column("NEXT", "next"),
            Column("LAG", "lag"),
            Column("STATE", "state"),
            Column("ACTIVE", "active"),
        ),
        rows=[attrs.asdict(peer) for peer in leader.peers],
    )


def measures(answers: Sequence[Answer]) -> Listing:
    """What each manager that answered measured: median and 99th percentile of times, and counts."""
    statuses = [answer.status for answer in answers if answer.status is not None]
    return Listing(
        columns=(
            Column("MANAGER", "name"),
            Column("FSYNC P50/P99", lambda row: _ms(row["fsync_p50_ms"], row["fsync_p99_ms"])),
            Column("COMMIT P50/P99", lambda row: _ms(row["commit_p50_ms"], row["commit_p99_ms"])),
            Column("LAG P99/MAX", lambda row: _ms(row["loop_lag_p99_ms"], row["loop_lag_max_ms"])),
            Column("ELECTIONS", "elections"),
            Column("LEADER CHANGES", "leader_changes"),
            Column("SNAPSHOT", "snapshot_index"),
            Column("JOURNAL", lambda row: size(row["journal_bytes"])),
            Column("FREE", lambda row: size(row["free_bytes"])),
            Column("DROPPED", lambda row: _counted(row["dropped"])),
        ),
        rows=[{"name": s.name, **attrs.asdict(s.metrics, recurse=False)} for s in statuses],
    )


def differences(answers: Sequence[Answer]) -> list[tuple[str, str, int]]:
    """Which managers saw another's state differ from their own, and where."""
    statuses = [answer.status for answer in answers if answer.status is not None]
    return [(s.name, other, at) for s in statuses for other, at in sorted(s.differing.items())]


def _diverged(answers: Sequence[Answer]) -> dict[str, int]:
    """The managers that a majority of all says differ; the newest entry where that was seen."""
    told = differences(answers)
    return {
        answer.name: max(at for _, other, at in told if other == answer.name)
        for answer in answers
        if sum(other == answer.name for _, other, _ in told) > len(answers) // 2
    }


def _trouble(row: Row) -> object:
    """Why a manager does not answer, or what it says is wrong with itself."""
    if row["diverged_at"] is not None:
        return f"diverged up to entry {row['diverged_at']}: its own log says what to do"
    if row["recovering"]:
        return "recovering: part of its log was lost here; a quorum of the others makes it whole"
    return row["error"] or row["unfit_because"]


def _counted(dropped: object) -> str:
    assert isinstance(dropped, dict), f"counts by cause, not {dropped!r}"
    return ",".join(f"{cause}={count}" for cause, count in dropped.items() if count)


def _ms(*values: object) -> str:
    """`0.2/1.5 ms`; `-` where nothing was measured yet."""
    if None in values:
        return "-"
    return "/".join(_short(value) for value in values) + " ms"


def _short(value: object) -> str:
    """Three digits are enough to compare by, but no digit of a whole number is left out."""
    return f"{value:.3g}" if isinstance(value, float) and value < 1_000 else f"{value:.0f}"


def size(count: object) -> str:
    """Bytes for people: `812 B`, `4.2 MiB`."""
    assert isinstance(count, int), f"a number of bytes, not {count!r}"
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"


def _manager_row(answer: Answer) -> Row:
    status = answer.status
    if status is None:
        error = "" if answer.error is None else answer.error.message
        blank = dict.fromkeys(field.name for field in attrs.fields(ManagerStatus))
        unknown: dict[str, object] = {"mesh": {}, "peers": [], "differing": {}}
        return {**blank, **unknown, "name": answer.name, "address": answer.address, "error": error}
    known = plain(status)
    assert isinstance(known, dict), "an attrs value is a map"
    return {
        **known,
        "address": answer.address,
        "error": "",
    }
