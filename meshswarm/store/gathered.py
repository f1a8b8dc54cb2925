"""Commands that wait to be sent together: what is encoded already, and what goes in columns."""

from collections.abc import Sequence
from itertools import groupby

from meshswarm import codec
from meshswarm.store.commands import Batch, PutConfig, Simple, encode_command, group_of

Waiting = PutConfig | bytes
"""A config to be put waits as it is, for it will share columns with its like; all else encoded."""

PUT_CONFIG_BYTES = 50
"""What a config that is put takes beside its name and data, if it travels alone."""


def waiting(command: Simple | Batch) -> tuple[Waiting, int]:
    """What waits of it, and about how many bytes that will take, or more; raises what encoding it
    would."""
    if type(command) is PutConfig and not command.labels:
        return command, len(command.name.encode()) + len(command.data) + PUT_CONFIG_BYTES
    encoded = encode_command(command)
    return encoded, len(encoded)


def sent(commands: Sequence[Waiting]) -> bytes:
    """The bytes of that one command, or of the `Group` of them."""
    if len(commands) == 1:
        (one,) = commands
        return one if isinstance(one, bytes) else encode_command(one)
    encoded: list[bytes] = []
    for _, some in groupby(commands, type):
        alike = list(some)
        if type(alike[0]) is not bytes:
            alike = list(map(codec.dumps_in_order, codec.unstructure(alike, Sequence[Simple])))
        encoded += alike  # type: ignore[arg-type]  # they are bytes now
    return group_of(encoded)
