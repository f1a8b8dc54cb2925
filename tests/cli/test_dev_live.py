"""The live view of a dev cluster: what is drawn, and that it fits."""

from pathlib import Path

import pytest
from rich.console import Console

from meshswarm.cli.dev.layout import Layout
from meshswarm.cli.dev.live import Screen, example_of
from meshswarm.model.task import TaskState
from tests.support.fake_cluster import cluster_of, stack, with_stack, with_task


@pytest.fixture
def screen(tmp_path: Path) -> Screen:
    """Three nodes, four services, one task, and more events than are ever shown."""
    screen = Screen(Layout(tmp_path), example_of(stack("shop", api=1)))
    view = with_stack(cluster_of("n1", "n2", "n3"), stack("shop", api=1, cart=2, pay=1, web=3))
    screen.view = with_task(view, "shop_web", 1, "n1", TaskState.RUNNING)
    screen.leader = "n1"
    for number in range(30):
        screen.tell(f"event {number}")
    return screen


def drawn(screen: Screen, height: int, width: int = 80) -> list[str]:
    console = Console(width=width, height=height, force_terminal=False)
    with console.capture() as capture:
        console.print(screen.picture(height))
    return capture.get().splitlines()


@pytest.mark.parametrize("height", [14, 18, 24, 30, 50])
def test_it_fits_and_the_latest_event_and_the_way_out_are_always_there(
    screen: Screen, height: int
) -> None:
    lines = drawn(screen, height)
    assert len(lines) <= height - 1, "the cursor's line is the terminal's"
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    assert ("event 29" in text, "Ctrl-C" in text, "n3" in text) == (True, True, True)


def test_a_large_terminal_shows_what_to_try_on_a_service_that_is_there(screen: Screen) -> None:
    text = "\n".join(drawn(screen, 50))
    assert "service scale shop_api=5" in text
    assert [f"event {n}" in text for n in (21, 22, 29)] == [False, True, True]


def test_a_small_terminal_counts_the_services_that_it_leaves_out(screen: Screen) -> None:
    assert "and 2 more" in "\n".join(drawn(screen, 16))
