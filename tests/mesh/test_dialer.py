"""When a lane is dialed anew though libzmq would try again by itself, only later."""

from meshswarm.mesh.dialer import Pause
from meshswarm.mesh.sockets import Happening


def test_a_pause_is_waited_for_while_nothing_is_heard() -> None:
    pause = Pause()
    for happening in (Happening.DIALING, Happening.PAUSED, Happening.DIALING, Happening.PAUSED):
        pause.happened(happening)
        assert not pause.is_vain


def test_a_pause_is_in_vain_once_the_peer_is_heard() -> None:
    pause = Pause()
    pause.happened(Happening.DISCONNECTED)
    pause.heard()
    assert pause.is_vain


def test_an_attempt_under_way_is_not_cut_off_but_no_pause_follows_it() -> None:
    pause = Pause()
    pause.happened(Happening.DIALING)
    pause.heard()
    assert not pause.is_vain
    pause.happened(Happening.REACHED)
    assert not pause.is_vain
    pause.happened(Happening.PAUSED)
    assert pause.is_vain


def test_what_was_heard_before_a_connection_says_nothing_after_it() -> None:
    pause = Pause()
    pause.heard()
    pause.happened(Happening.SUCCEEDED)
    pause.happened(Happening.DISCONNECTED)
    assert not pause.is_vain


def test_a_peer_that_dials_while_we_hold_its_old_connection_is_there_when_that_ends() -> None:
    pause = Pause()
    pause.happened(Happening.SUCCEEDED)
    pause.heard()
    pause.happened(Happening.DISCONNECTED)
    assert pause.is_vain
