"""What users must know of networks: names resolve among the tasks of one node. Pure."""

from collections.abc import Iterator

from meshswarm.cli.rows import node_name
from meshswarm.store.view import View


def far_apart(view: View, stack: str) -> Iterator[str]:
    """A sentence for each network in which services of the stack do not all find each other."""
    services: dict[str, set[str]] = {}
    nodes: dict[str, set[str]] = {}
    for service in view.services_of(stack):
        for use in service.spec.task.networks:
            services.setdefault(use.name, set()).add(service.spec.name)
            live = (task for task in view.tasks_of(service.id) if task.is_live)
            names = {node_name(view, task.node_id) for task in live}
            nodes.setdefault(use.name, set()).update(name for name in names if name)
    for network, members in sorted(services.items()):
        if len(members) > 1 and len(nodes[network]) > 1:
            yield (
                f"{', '.join(sorted(members))} are in network {network} on several nodes "
                f"({', '.join(sorted(nodes[network]))}), and names resolve only within one node "
                "yet: publish ports, or keep them together with x-meshswarm.placement.affinity"
            )
