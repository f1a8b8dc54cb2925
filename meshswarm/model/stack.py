"""A stack: services that are deployed and removed together, as one Compose file describes them."""

from attrs import frozen

from meshswarm.ids import Version
from meshswarm.model.job import JobSpec
from meshswarm.model.service import ServiceSpec


@frozen(kw_only=True)
class StackSpec:
    """Everything that one `deploy` asks for; each service's `stack` is `name`."""

    name: str
    services: tuple[ServiceSpec, ...]
    jobs: tuple[JobSpec, ...] = ()
    configs: tuple[str, ...] = ()
    """Full names of the configs that are the stack's own; their content is put beforehand."""
    secrets: tuple[str, ...] = ()


@frozen(kw_only=True)
class Stack:
    """A stack in the store; its services are found by their `stack`."""

    name: str
    version: Version
    created_at_ms: int
    updated_at_ms: int
    configs: tuple[str, ...] = ()
    """Configs that go with it."""
    secrets: tuple[str, ...] = ()
