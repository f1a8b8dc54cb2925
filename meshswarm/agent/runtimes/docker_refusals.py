"""A Docker engine's refusals: a reason for programs, and a sentence for people.

The engine wraps the one thing that matters in the names of all the parts that passed it on. What is
known is said in our words; of what is not, the wrapping is taken off.
"""

import re

from meshswarm.agent.runtimes.port import RuntimeFailure
from meshswarm.model.task import Reason

_WRAPPING = re.compile(
    r"(failed to create (shim )?task( for container)?: |OCI runtime create failed: |"
    r"runc create failed: |unable to start container process: |container_linux.go:\d+: |"
    r"driver failed programming external connectivity on endpoint \S+ \(\w+\): )+"
)

_SENTENCES = (
    # What the engine says, the reason, and how we put it. The first that occurs decides.
    (
        r"Bind for (\S+) failed: port is already allocated|"
        r"listen (?:tcp|udp|sctp)\d? (\S+): bind: address already in use",
        Reason.PORT_IN_USE,
        "{} is taken on this node",
    ),
    (
        r'exec: "(.*?)": (?:stat .*: no such file|executable file not found)|'
        r"exec (\S+): no such file or directory",
        Reason.COMMAND_NOT_FOUND,
        "the image has no command {!r}",
    ),
    (
        r'exec: "(.*?)": permission denied',
        Reason.COMMAND_NOT_FOUND,
        "the image's {!r} is not executable",
    ),
    (
        r"all predefined address pools have been fully subnetted|"
        r"non-overlapping IPv[46] address pool",
        Reason.ADDRESS_POOL_EXHAUSTED,
        "the engine has no address range left for another network: `docker network prune` frees "
        "those that nobody uses, `default-address-pools` in its daemon.json adds more",
    ),
    (
        r"no command specified",
        Reason.COMMAND_NOT_FOUND,
        "neither the service nor its image names a command",
    ),
)

_REASONS = (
    # The first that occurs in the engine's message decides; order matters.
    (Reason.PORT_IN_USE, "port is already allocated|address already in use|ports are not availabl"),
    (Reason.DISK_FULL, "no space left on device|disk quota exceeded|not enough space"),
    (Reason.IMAGE_NOT_FOUND, "does not match the specified platform|no matching manifest for"),
    (Reason.IMAGE_NOT_FOUND, "no such image|manifest unknown|manifest for .* not found"),
    (Reason.IMAGE_NOT_FOUND, "repository does not exist|pull access denied|invalid reference"),
    (Reason.MOUNT_FAILED, "invalid mount|invalid volume|bind source path|mount denied|mount path"),
    (Reason.MOUNT_FAILED, "error mounting|volume plugin|error while mounting|mounting volume"),
    (Reason.MOUNT_FAILED, "creating mount source path|get .*/volumes/|not a directory: unknown"),
)

_REGISTRY = re.compile(r'(?:Get|Head) "https?://([^/"]+)[^"]*": (?:.*: )?(.+)')
"""An engine that could not speak to the registry: where, and the innermost cause."""


def failure_of(message: str, otherwise: Reason) -> RuntimeFailure:
    """The engine's refusal with its reason; `otherwise` if its words are not known."""
    for pattern, reason, sentence in _SENTENCES:
        if known := re.search(pattern, message, re.IGNORECASE):
            return RuntimeFailure(reason, sentence.format(*filter(None, known.groups())))
    for reason, pattern in _REASONS:
        if re.search(pattern, message, re.IGNORECASE):
            otherwise = reason
            break
    return RuntimeFailure(otherwise, _WRAPPING.sub("", message).removesuffix(": unknown"))


def pull_failure(image: str, message: str) -> RuntimeFailure:
    """Why the image, which is not on this node, did not come from its registry either."""
    failure = failure_of(message, Reason.PULL_FAILED)
    why = failure.message
    if unreached := _REGISTRY.search(message):
        why = f"the registry {unreached[1]} does not answer ({unreached[2]})"
    what = f"image {image} is not on this node and cannot be pulled: {why}"
    return RuntimeFailure(failure.reason, what)
