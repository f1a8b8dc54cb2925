"""What one pass leaves to the next, so that it need not be worked out anew."""

from attrs import Factory, frozen

from meshswarm.control.loads import Loads
from meshswarm.control.resting import Resting


@frozen
class Kept:
    """Found of rows, and true as long as they are the same rows: it alters no decision."""

    loads: Loads = Factory(Loads)
    resting: Resting = Factory(Resting)
