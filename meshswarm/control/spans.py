"""How long something takes, in words for a sentence."""


def span(ms: float) -> str:
    """`1.5 s`, `95 s`, `12 min 30 s`, `2 h 5 min`, `3 d 4 h`: the two units that matter."""
    ms = max(0, ms)
    if ms < 10_000:
        return f"{round(ms / 1_000, 1):g} s"
    seconds = round(ms / 1_000)
    if seconds < 120:
        return f"{seconds} s"
    minutes, hours = seconds // 60, seconds // 3_600
    if minutes < 120:
        return _two(minutes, "min", seconds % 60, "s")
    if hours < 48:
        return _two(hours, "h", minutes % 60, "min")
    return _two(hours // 24, "d", hours % 24, "h")


def _two(large: int, unit: str, small: int, smaller: str) -> str:
    return f"{large} {unit} {small} {smaller}" if small else f"{large} {unit}"
