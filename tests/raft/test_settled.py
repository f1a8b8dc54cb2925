"""When nothing that is still to come can join what is answered: the driver then answers at once."""

from meshswarm.ids import Term
from meshswarm.raft.messages import Heartbeat, HeartbeatReply
from tests.raft.driving import A, B, C, ack, core_of, elected, sent_by


def test_all_is_settled_once_a_majority_holds_the_end_of_the_log() -> None:
    """Then no message that is still to come this turn can add to what is answered."""
    core = elected(core_of())
    sent_by(core)
    assert not core.is_settled, "the first entry of the term is on its way"
    core.step(ack(B, 1, 1))
    assert core.is_settled
    sent_by(core)
    assert not core.is_settled, "and handed out"
    core.propose([b"one"])
    core.propose([b"two"])
    sent_by(core)
    core.step(ack(B, 1, 2))
    assert not core.is_settled, "another one is under way"
    core.step(ack(C, 1, 3))
    assert core.is_settled


def test_a_confirmed_read_settles_all() -> None:
    core = elected(core_of())
    sent_by(core)
    core.step(ack(B, 1, 1))
    core.read_index(1)
    [position] = {m.read_position for m in sent_by(core) if isinstance(m, Heartbeat)}
    core.step(HeartbeatReply(from_=B, to=A, term=Term(1), read_position=position))
    assert core.is_settled
    sent_by(core)
    assert not core.is_settled
