"""Which command was meant by one that there is not: Swarm's and Compose's words, and the same word
in another group. Pure."""

from collections.abc import Iterator, Mapping

MAX_TOLD = 4
"""Commands of that name that are told."""

OF_OTHERS: Mapping[str, str] = {
    "service create": "meshswarm deploy FILE",
    "service step": "meshswarm service resume SERVICE --step",
    "stack deploy": "meshswarm deploy FILE",
    "stack up": "meshswarm deploy FILE",
    "stack down": "meshswarm stack rm STACK",
    "stack services": "meshswarm service ls --filter stack=STACK",
    "stack config": "meshswarm deploy FILE --dry-run",
    "job start": "meshswarm job run JOB",
    "job stop": "meshswarm job cancel JOB",
    "swarm": "meshswarm config init --help",
    "up": "meshswarm deploy FILE",
    "down": "meshswarm stack rm STACK",
    "run": "meshswarm job run JOB",
    "info": "meshswarm cluster status",
    "status": "meshswarm cluster status",
    "stats": "meshswarm top",
}
"""What users of other tools type, and what it is here."""


def instead_of(group: str, name: str, tree: Mapping[str, object]) -> str | None:
    """The commands that may be meant by this one of that group (empty: the root); None: no idea."""
    known = OF_OTHERS.get(f"{group} {name}".strip())
    if known is not None:
        return known
    alike = [path for path in _paths("meshswarm", tree) if path.rpartition(" ")[2] == name]
    return "; ".join(alike[:MAX_TOLD]) or None


def _paths(path: str, tree: Mapping[str, object]) -> Iterator[str]:
    for name, command in tree.items():
        below = getattr(command, "commands", {})
        if below and name != "dev":
            yield from _paths(f"{path} {name}", below)
        elif not below:
            yield f"{path} {name}"
