"""The engine's refusals in a reason for programs and a sentence for people."""

import pytest

from meshswarm.agent.runtimes.docker_refusals import failure_of, pull_failure
from meshswarm.model.task import Reason


@pytest.mark.parametrize(
    ("said", "reason", "message"),
    [
        (
            "driver failed programming external connectivity on endpoint q_p.2.f (87b93c585398): "
            "Bind for 0.0.0.0:18080 failed: port is already allocated",
            Reason.PORT_IN_USE,
            "0.0.0.0:18080 is taken on this node",
        ),
        (
            "driver failed programming external connectivity on endpoint r.1.l (aafe1dff): Error "
            "starting userland proxy: listen tcp4 127.0.0.1:18081: bind: address already in use",
            Reason.PORT_IN_USE,
            "127.0.0.1:18081 is taken on this node",
        ),
        (
            "failed to create shim task: OCI runtime create failed: runc create failed: unable to "
            'start container process: exec: "/no/such": stat /no/such: no such file or directory: '
            "unknown",
            Reason.COMMAND_NOT_FOUND,
            "the image has no command '/no/such'",
        ),
        (
            "failed to create shim task: OCI runtime create failed: runc create failed: unable to "
            'start container process: exec: "nosuch": executable file not found in $PATH: unknown',
            Reason.COMMAND_NOT_FOUND,
            "the image has no command 'nosuch'",
        ),
        (
            "failed to create task for container: mkdir /run/x: no space left on device: unknown",
            Reason.DISK_FULL,
            "mkdir /run/x: no space left on device",
        ),
        (
            "could not find an available, non-overlapping IPv4 address pool among the defaults to "
            "assign to the network",
            Reason.ADDRESS_POOL_EXHAUSTED,
            "the engine has no address range left for another network: `docker network prune` "
            "frees those that nobody uses, `default-address-pools` in its daemon.json adds more",
        ),
        (
            "No command specified",
            Reason.COMMAND_NOT_FOUND,
            "neither the service nor its image names a command",
        ),
        (
            "failed to create shim task: OCI runtime create failed: the moon is full: unknown",
            Reason.START_FAILED,
            "the moon is full",
        ),
    ],
)
def test_what_matters_is_said_without_the_noise_around_it(
    said: str, reason: Reason, message: str
) -> None:
    failure = failure_of(said, Reason.START_FAILED)
    assert (reason, message) == (failure.reason, failure.message)


@pytest.mark.parametrize(
    ("said", "reason", "why"),
    [
        (
            'Get "https://registry.test/v2/": dial tcp: lookup registry.test on 192.0.2.1:53: '
            "no such host",
            Reason.PULL_FAILED,
            "the registry registry.test does not answer (no such host)",
        ),
        (
            "manifest for shop/web:7 not found: manifest unknown: manifest unknown",
            Reason.IMAGE_NOT_FOUND,
            "manifest for shop/web:7 not found: manifest unknown: manifest unknown",
        ),
    ],
)
def test_an_image_that_cannot_be_had_is_named_first(said: str, reason: Reason, why: str) -> None:
    failure = pull_failure("shop/web:7", said)
    assert reason is failure.reason
    assert f"image shop/web:7 is not on this node and cannot be pulled: {why}" == failure.message


def test_unknown_words_are_passed_on_with_the_reason_of_the_step() -> None:
    failure = failure_of("the moon is in the way", Reason.CREATE_FAILED)
    assert Reason.CREATE_FAILED is failure.reason
    assert failure.message == "the moon is in the way"
