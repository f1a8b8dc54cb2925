"""What waits for the disk is held once, however long that takes."""

from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft.messages import AppendReply
from meshswarm.raft.outbox import Outbox
from tests.support.raft_script import Script


def _reply(index: int) -> AppendReply:
    return AppendReply(from_=NodeId("c"), to=NodeId("a"), term=Term(1), index=Index(index))


def test_an_answer_that_is_repeated_while_the_disk_works_is_held_once() -> None:
    outbox = Outbox()
    outbox.send(_reply(1))
    token, _ = outbox.take(writes=True)
    assert token is not None
    for _ in range(100):
        outbox.send(_reply(2))
        outbox.send(_reply(1))
        assert (None, ()) == outbox.take(writes=False)
    assert [_reply(2), _reply(1)] == outbox.persisted(token), "the last word is the last one still"


def test_a_disk_that_hangs_makes_no_queue_of_answers() -> None:
    """The leader asks again at each of 500 heartbeats."""
    script = Script()
    for line in ("nodes a b c", "quiet elect a", "quiet run 2", "slow c", "quiet propose a x"):
        script.run(line)
    script.run("quiet run 500")
    script.run("quiet wrote c")
    answers = [line for line in script.run("wire") if "AppendReply" in line]
    assert 1 == len(answers)
