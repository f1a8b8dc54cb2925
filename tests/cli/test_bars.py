"""How far a deploy is: bars on a terminal, and lines that a CI log can hold."""

import io

from rich.console import Console

from meshswarm.cli.bars import Lines, drawn, services_of
from meshswarm.cli.waiting import SlotProgress


def slots(service: str, *states: str) -> list[SlotProgress]:
    """One slot for each state; `ok` is done, `failed` says why."""
    return [
        SlotProgress(
            name=f"{service}.{number}",
            service=service,
            state="running" if state == "ok" else state,
            node="n1",
            why="it ended with exit code 3" if state == "failed" else "",
            is_done=state == "ok",
        )
        for number, state in enumerate(states, 1)
    ]


def rollout(service: str, state: str) -> SlotProgress:
    return SlotProgress(name=service, service=service, state=state, why="1 is well")


def printed(all_slots: list[SlotProgress], passed_s: float = 7.2) -> list[str]:
    console = Console(width=100, file=(text := io.StringIO()))
    console.print(drawn(all_slots, passed_s))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_services_are_counted_with_what_keeps_them() -> None:
    web, api = services_of(
        [
            *slots("web", "ok", "outdated", "outdated", "starting"),
            rollout("web", "updating"),
            *slots("api", "ok"),
        ]
    )
    assert (web.done, web.total, web.words()) == (1, 4, "updating: 2 outdated, 1 starting")
    assert (api.done, api.total, api.words()) == (1, 1, "done")
    assert str(web) == "web: 1 of 4 as wanted; updating: 2 outdated, 1 starting"


def test_a_service_whose_slots_are_well_waits_for_its_rollout() -> None:
    (web,) = services_of([*slots("web", "ok", "ok"), rollout("web", "updating")])
    assert (web.is_done, web.words()) == (False, "updating")
    (gone,) = services_of([rollout("web", "removed")])
    assert (gone.total, gone.words()) == (0, "removed")


def test_each_service_has_a_bar_and_trouble_is_told_below() -> None:
    lines = printed([*slots("web", "ok", "failed"), *slots("api", "ok")])
    assert lines[0].startswith("web  ━━━━━━━━━━━━")
    assert lines[0].endswith("1/2  1 failed")
    assert lines[1].endswith("1/1  done")
    assert lines[2:] == [
        "  web.2 failed on n1: it ended with exit code 3",
        "2 of 3 as wanted after 7 s; Ctrl-C leaves it to the cluster",
    ]


def test_a_screen_stays_small_however_many_there_are() -> None:
    many = [slot for n in range(40) for slot in slots(f"s{n:02}", "failed")]
    lines = printed([*slots("done", "ok"), *many])
    assert not lines[0].startswith("done"), "what is done gives way"
    assert "and 29 more services" in lines
    assert "  and 34 more" in lines
    assert len(lines) < 24


def test_without_a_terminal_each_change_of_a_slot_is_a_line() -> None:
    lines = Lines(most=20)
    assert ["web.1 starting on n1", "web.2 starting on n1"] == lines.after(
        slots("web", "starting", "starting")
    )
    assert ["web.1 running on n1"] == lines.after(slots("web", "ok", "starting"))
    assert [] == lines.after(slots("web", "ok", "starting"))
    assert ["web.2 is gone"] == lines.after(slots("web", "ok"))
    assert ["web updating: 1 is well"] == lines.after(
        [*slots("web", "ok"), rollout("web", "updating")]
    )
    assert [] == lines.after(slots("web", "ok")), "a rollout that is over is no news"


def test_of_a_large_service_each_tenth_is_a_line() -> None:
    lines = Lines(most=20)
    said = []
    for done in range(101):
        said += lines.after(slots("web", *["ok"] * done, *["pending"] * (100 - done)))
    assert len(said) == 11
    assert said[0] == "web: 0 of 100 as wanted; 100 pending"
    assert said[-1] == "web: 100 of 100 as wanted; done"
    assert lines.after([*slots("web", *["ok"] * 100), rollout("web", "updating")]) == [
        "web updating: 1 is well",
        "web: 100 of 100 as wanted; updating",
    ]
