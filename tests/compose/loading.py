"""How the tests of this room load a text: a project directory in memory, nothing from this host."""

import textwrap
from collections.abc import Mapping

from meshswarm.compose.load import Loaded, load
from meshswarm.model.service import ServiceSpec

DIRECTORY = "/project"


def loaded(
    text: str | bytes,
    *,
    name: str | None = "p",
    directory: str = DIRECTORY,
    environment: Mapping[str, str] | None = None,
    files: Mapping[str, str | bytes] | None = None,
) -> Loaded:
    """What `text` says; `files` by their names in the project directory."""
    contents = {
        f"{directory}/{path}": content if isinstance(content, bytes) else content.encode()
        for path, content in (files or {}).items()
    }
    return load(
        text if isinstance(text, bytes) else text.encode(),
        file="compose.yml",
        name=name,
        directory=directory,
        environment=environment or {},
        read=contents.get,
    )


def in_service(body: str) -> str:
    """A file whose only service `a` has the image x and these lines."""
    return "services:\n  a:\n    image: x\n" + textwrap.indent(body, "    ") + "\n"


def service(
    body: str,
    *,
    environment: Mapping[str, str] | None = None,
    files: Mapping[str, str | bytes] | None = None,
) -> ServiceSpec:
    """The service that `in_service(body)` describes."""
    return loaded(in_service(body), environment=environment, files=files).spec.services[0]
