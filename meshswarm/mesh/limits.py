"""Every limit and interval of the mesh, with what happens when it is reached."""

from attrs import field, frozen
from attrs.validators import ge


@frozen(kw_only=True)
class MeshLimits:
    """Sizes in bytes, times in seconds; all counts are at least 1."""

    header_bytes_max: int = field(default=1 << 20, validator=ge(256))
    """A message's header with its body. Sending more is `Invalid`; receiving more is dropped."""
    payload_bytes_max: int = field(default=16 << 20, validator=ge(1024))
    """One payload. Sending more is `Invalid`; a peer that sends more is disconnected (libzmq)."""
    payloads_max: int = field(default=256, validator=ge(1))
    """Payloads of one message. Sending more is `Invalid`; receiving more is dropped."""

    control_queue: int = field(default=1000, validator=ge(1))
    data_queue: int = field(default=128, validator=ge(1))
    bulk_queue: int = field(default=32, validator=ge(1))
    """Messages that wait in a lane for a slow peer. Full: notify is False, call `Unavailable`."""
    listener_queue: int = field(default=256, validator=ge(1))
    """The same for each connection that a peer dialed to us."""
    outbox: int = field(default=2048, validator=ge(1))
    """Answers, chunks and credits held for a lane that is full. Full: its open work is ended."""
    channels_per_peer: int = field(default=256, validator=ge(3))
    """Connections accepted from one peer (a client key may serve many processes). Full: the one
    that was silent longest is forgotten."""
    messages_per_turn: int = field(default=128, validator=ge(1))
    """Messages read from one socket before the loop may do something else."""

    calls_outstanding: int = field(default=4096, validator=ge(1))
    """Calls and streams that one lane awaits. Full: `Unavailable`."""
    calls_served: int = field(default=1024, validator=ge(1))
    streams_served: int = field(default=64, validator=ge(1))
    """Handlers running at once for one peer. Full: it is answered `Unavailable` ("busy")."""
    stream_window: int = field(default=64, validator=ge(1))
    """Chunks that a stream may be ahead of its reader. Full: the handler waits; a peer that sends
    more all the same has its stream ended."""

    connect_timeout_s: float = 2.0
    """How long a call waits for a connection before it is `Unavailable`."""
    handshake_timeout_s: float = 3.0
    reconnect_s: float = 0.1
    reconnect_max_s: float = 0.5
    """Pauses after a lost connection, and between attempts at which nobody listens: twice as long
    each time. A peer that dials us meanwhile is dialed at once."""
    redial_s: float = 1.0
    """Pause after a refused or failed handshake."""
    stuck_s: float = 8.0
    """A dialer that libzmq reports nothing of for so long, and has no connection, starts afresh."""
    probe_s: float = 5.0
    """A lane on which nothing was heard for so long is probed with a PING."""
    silence_s: float = 20.0
    """A lane on which nothing was heard for so long has its open work ended."""
    transport_timeout_s: float = field(default=3.0, validator=ge(2))
    """TCP closes a connection whose peer's host acknowledged nothing for so long, and decides
    nothing else. A loop that stalls for so long under a full queue is cut off too."""
    safety_poll_s: float = 0.25
    """Sockets are read this often even if nothing woke us (see `pump`)."""


DEFAULT_LIMITS = MeshLimits()
