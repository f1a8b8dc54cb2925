"""When a cron expression fires: instants in milliseconds, by the clock of a time zone.

The grammar and what daylight saving time does to it are cronsim's, which are Debian's: what falls
into an hour that is left out fires right after it, what has a fixed hour fires once in one that
comes twice. Zones are the host's tz database, or the package tzdata's; so two hosts may differ, and
whoever decides writes the instant down.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

MAX_ZONE = 100
"""Characters of a zone's name."""


class BadSchedule(ValueError):
    """No cron expression, or no time zone; its sentence says why."""


def check(cron: str, timezone: str) -> None:
    """Raise `BadSchedule` unless these are five fields that fire some day, in a known zone."""
    if len(cron.split()) != 5:
        raise BadSchedule("has five fields: minute, hour, day of the month, month, day of the week")
    zone = zone_named(timezone)
    try:
        first = next(CronSim(cron, datetime(2024, 1, 1, tzinfo=zone)), None)
    except CronSimError as error:
        raise BadSchedule(f"{_small(str(error))} in `{cron:.80}`") from error
    if first is None:
        raise BadSchedule(f"`{cron:.80}` never fires")


def fires_after(cron: str, timezone: str, after_ms: int) -> Iterator[int]:
    """The instants after `after_ms` at which it fires, in order; at most fifty years ahead."""
    after = datetime.fromtimestamp(after_ms // 1_000, UTC).astimezone(zone_named(timezone))
    for at in CronSim(cron, after):
        at_ms = round(at.timestamp()) * 1_000
        if at_ms > after_ms:
            yield at_ms


@lru_cache(maxsize=256)
def zone_named(name: str) -> ZoneInfo:
    """The time zone of that IANA name; raises `BadSchedule` if there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadSchedule(
            f"there is no time zone `{name[:MAX_ZONE]}`; write one like Europe/Paris, or UTC"
        ) from error


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]
