"""Networks: what a stack defines, which a service is in, and by which names it is found there."""

from collections.abc import Mapping

from meshswarm.compose.cursor import Cursor, Section
from meshswarm.compose.report import Unfit
from meshswarm.compose.shapes import applied, names_of, text
from meshswarm.model.network import NetworkMode, NetworkUse

DEFAULT = "default"
"""The network of services that name none."""


def uses(cursor: Cursor) -> dict[str, tuple[Section, Cursor]]:
    """A list of names, or a mapping of names to what there is to say; with their places."""
    if cursor.kind == "a mapping":
        sections: dict[str, Section] = names_of("network")(cursor)
        return {name: (section, section.cursor) for name, section in sections.items()}
    found: dict[str, tuple[Section, Cursor]] = {}
    for item in cursor.items():
        name = applied(text, item)
        if name in found:
            item.fault(f"`{name}` stands here twice")
        elif name is not None:
            found[name] = (Section(cursor=item, values={}, places={}), item)
    return found


def mode(word: str) -> NetworkMode:
    """What a container has instead of networks."""
    try:
        return NetworkMode(word)
    except ValueError:
        raise Unfit(f"must be host or none, not `{word:.40}`; or name `networks`") from None


def driver(word: str) -> str:
    """The only driver there is yet."""
    if word != "bridge":
        raise Unfit(f"must be bridge, not `{word:.40}`: networks of one host are all there is yet")
    return word


def check(network: Section) -> None:
    """Fault what an external network cannot have."""
    for key in ("internal", "driver", "driver_opts", "labels"):
        if network.get("external") and key in network.places:
            network.at(key).fault("an external network is not made here; remove this key")


def networks_of(
    service: Section, defined: Mapping[str, Section], stack: str
) -> tuple[NetworkUse, ...]:
    """The networks that a service's containers are in; the default one if it says nothing."""
    if service.get("network_mode") is not None:
        for key in ("networks", "ports"):
            if key in service.places:
                service.at(key).fault("does not go with `network_mode`; remove one of the two")
        return ()
    written: Mapping[str, tuple[Section, Cursor]] = service.get("networks", {})
    if not written:
        return (_use(DEFAULT, defined.get(DEFAULT), (), stack),)
    found: list[NetworkUse] = []
    for name, (section, place) in written.items():
        if name not in defined and name != DEFAULT:
            place.fault(f"there is no `{name:.80}` under the file's own `networks`")
            continue
        found.append(_use(name, defined.get(name), section.get("aliases", ()), stack))
    return tuple(found)


def _use(key: str, network: Section | None, aliases: tuple[str, ...], stack: str) -> NetworkUse:
    if network is None:
        return NetworkUse(name=f"{stack}_{key}", aliases=aliases)
    is_external = bool(network.get("external", False))
    return NetworkUse(
        name=network.get("name", key if is_external else f"{stack}_{key}"),
        aliases=aliases,
        external=is_external,
        internal=network.get("internal", False),
        driver_options=network.get("driver_opts", {}),
        labels=network.get("labels", {}),
    )
