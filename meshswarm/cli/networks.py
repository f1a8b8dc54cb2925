"""What users must know of networks: names resolve among the tasks of one node. Pure."""

from collections.abc import Iterator

from attrs import evolve

from meshswarm.cli.rows import node_name
from meshswarm.errors import NotFound
from meshswarm.model.service import ServiceSpec
from meshswarm.store.view import View

MOST_TOLD = 20
"""Networks that are listed to whoever names one that is not there."""


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


def as_known(view: View, before: ServiceSpec, after: ServiceSpec) -> ServiceSpec:
    """`after`, with the networks that were added to it as the services have them that are in them.

    :raises NotFound: for one that no service is in: nothing says how it is to be made.
    """
    had = {use.name for use in before.task.networks}
    if all(use.name in had for use in after.task.networks):
        return after
    every = (use for service in view.sorted_services() for use in service.spec.task.networks)
    known = {use.name: use for use in every}
    for use in after.task.networks:
        if use.name not in known and not use.external:
            raise NotFound(
                f"no service is in a network {use.name!r}",
                details=sorted(known)[:MOST_TOLD],
                hint=f"deploy a stack that has it; or, for one that the engines have already, "
                f"meshswarm service update {after.name} --network-add name={use.name},external",
            )
    networks = (
        evolve(known.get(use.name, use), aliases=use.aliases) for use in after.task.networks
    )
    return evolve(after, task=evolve(after.task, networks=tuple(networks)))
