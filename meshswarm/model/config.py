"""A config: a named file's content that the cluster keeps and hands to the tasks that use it."""

from collections.abc import Mapping

from attrs import Factory, frozen

from meshswarm.ids import Version


@frozen(kw_only=True, weakref_slot=False)
class Config:
    """A config in the store; `name` is its key, `data` what a task finds in the file."""

    name: str
    data: bytes
    labels: Mapping[str, str] = Factory(dict)
    version: Version
    created_at_ms: int
    updated_at_ms: int
