"""The engine's refusals in a reason for programs and a sentence for people."""

from meshswarm.agent.runtimes.docker_spec import failure_of
from meshswarm.model.task import Reason


def test_a_taken_port_is_named_without_the_noise_around_it() -> None:
    said = (
        "driver failed programming external connectivity on endpoint q_p.2.f (87b93c585398): "
        "Bind for 0.0.0.0:18080 failed: port is already allocated"
    )
    failure = failure_of(said, Reason.START_FAILED)
    assert Reason.PORT_IN_USE is failure.reason
    assert failure.message == "0.0.0.0:18080 is taken on this node"


def test_unknown_words_are_passed_on_with_the_reason_of_the_step() -> None:
    failure = failure_of("the moon is in the way", Reason.CREATE_FAILED)
    assert Reason.CREATE_FAILED is failure.reason
    assert failure.message == "the moon is in the way"
