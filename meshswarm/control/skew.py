"""How far a service's tasks may be from even over the values of a label: a limit, not a wish.

Counted are the values of the nodes that are ready and may have the service's tasks; full ones too,
for that is what the limit is about. A zone that is silent as a whole is none of them: what ran
there goes to the others, as even as they can have it.
"""

from collections import Counter
from collections.abc import Collection

from meshswarm.control.filters import Refusal, suits, value_of
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import TaskId
from meshswarm.model.node import Node
from meshswarm.model.service import TaskSpec


class Skew:
    """A service's tasks by the values of its first spread label, and who may have one more."""

    def __init__(self, label: str, most: int, tasks: Counter[str], name: str) -> None:
        self.most = most
        self.tasks = tasks
        self._label, self._name = label, name
        self._value_of = value_of(label)

    def note(self, node: Node) -> None:
        """One more task on this node."""
        self.tasks[self._value_of(node)] += 1

    def against(self, node: Node) -> Refusal | None:
        """Why the node may not have another task now; None: it may, or is not counted at all."""
        value = self._value_of(node)
        if value not in self.tasks:
            return None
        lowest = min(self.tasks.values())
        if self.tasks[value] + 1 - lowest <= self.most:
            return None
        emptiest = min(other for other, count in self.tasks.items() if count == lowest)
        here = f"in {self._label}={value}, which has {self.tasks[value]} of {self._name}'s tasks"
        there = f"where {self._label}={emptiest} has {lowest}"
        return Refusal(one="is", many="are", rest=f"{here} {there}: max_skew is {self.most}")


def skew_of(
    whatif: WhatIf, spec: TaskSpec, name: str, without: Collection[TaskId] = ()
) -> Skew | None:
    """The service's tasks as they are spread now, some thought away; None: it has no limit."""
    placement = spec.placement
    if not placement.max_skew or not placement.spread_over:
        return None
    label = placement.spread_over[0]
    value, suited, view = value_of(label), suits(spec), whatif.view
    nodes = [node for node in whatif.candidates(spec) if suited is None or suited(node)]
    tasks = Counter(dict.fromkeys((value(node) for node in nodes), 0))
    for node in view.nodes.values():
        if (here := value(node)) in tasks:
            tasks[here] += whatif.load_of(node.id).live_of(name)
    for task_id in without:
        task = view.tasks[task_id]
        if task.is_live and task.node_id is not None and task.node_id in view.nodes:
            here = value(view.nodes[task.node_id])
            if here in tasks:
                tasks[here] -= 1
    return Skew(label, placement.max_skew, tasks, name)
