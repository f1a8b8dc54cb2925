"""What a service has several of, with some added and removed: ports, mounts, files, networks,
devices, preferences. Written as Docker's `service update` has them. Pure.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import typer
from attrs import evolve

from meshswarm.cli.edit import Edit, parsed
from meshswarm.cli.fields import fields
from meshswarm.compose import files, mounts, placements, ports
from meshswarm.compose.report import Unfit
from meshswarm.compose.texts import size
from meshswarm.model.file import FileKind, FileUse
from meshswarm.model.network import NetworkUse, Port
from meshswarm.model.resources import DeviceRequest
from meshswarm.model.service import RuntimeKind, ServiceSpec
from meshswarm.model.volume import Mount, MountKind

_MOST_IN_HINT = 10


# --- ports --------------------------------------------------------------------------------------


def publish(texts: Sequence[str]) -> Edit:
    """Ports published besides; what is there already stays once."""
    added = [port for text in texts for port in parsed(_ports, text, "--publish-add")]

    def edit(spec: ServiceSpec) -> ServiceSpec:
        task = spec.task
        if task.network_mode is not None:
            raise _unfit("its network mode publishes no ports", "--publish-add")
        new = [_own(port) if task.runtime is RuntimeKind.PROCESS else port for port in added]
        found = dict.fromkeys((*task.ports, *new))
        if len(found) > ports.MAX_PORTS:
            raise _unfit(f"a service may have {ports.MAX_PORTS} ports", "--publish-add")
        taken: set[object] = set()
        for port in found:
            place = (port.host_ip, port.published, port.protocol)
            if port.published and place in taken:
                raise _unfit(
                    f"{port.published}/{port.protocol.value} is published already; take the other "
                    "off with --publish-rm",
                    "--publish-add",
                )
            taken.add(place)
        return evolve(spec, task=evolve(task, ports=tuple(found)))

    return edit


def unpublish(texts: Sequence[str]) -> Edit:
    """Without the ports of these targets: `80`, `80/udp`, or exactly `8080:80`."""
    removed = [(text, parsed(ports.short, text, "--publish-rm")) for text in texts]

    def edit(spec: ServiceSpec) -> ServiceSpec:
        left = spec.task.ports
        for text, wanted in removed:
            gone = [port for port in left if any(_is_meant(port, text, one) for one in wanted)]
            if not gone:
                raise _unfit(f"it publishes no {text}", "--publish-rm")
            left = tuple(port for port in left if port not in gone)
        return evolve(spec, task=evolve(spec.task, ports=left))

    return edit


def _is_meant(port: Port, text: str, wanted: Port) -> bool:
    return (
        port.target == wanted.target
        and ("/" not in text or port.protocol is wanted.protocol)
        and (":" not in text or port.published == wanted.published)
    )


def _ports(text: str) -> tuple[Port, ...]:
    if "=" not in text:
        return ports.short(text)
    given = fields(text, ("target", "published", "protocol", "mode", "host_ip"))
    if given.get("mode", "host") != "host":
        raise Unfit("`ingress` comes with a later release; write mode=host, or leave it out")
    host_ip = ports.address(given.get("host_ip"))
    short = f"{given.get('published')}:{given.needed('target')}/{given.get('protocol')}"
    return tuple(evolve(port, host_ip=host_ip) for port in ports.short(short))


def _own(port: Port) -> Port:
    if port.published not in (0, port.target) or port.host_ip:
        raise _unfit(
            f"a process opens its ports itself: write {port.target}, without address or mapping",
            "--publish-add",
        )
    return evolve(port, published=port.target)


# --- mounts -------------------------------------------------------------------------------------

_MOUNT_KEYS: Mapping[str, MountKind | None] = {
    "type": None,
    "source": None,
    "target": None,
    "readonly": None,
    "bind-propagation": MountKind.BIND,
    "bind-create-src": MountKind.BIND,
    "volume-driver": MountKind.VOLUME,
    "volume-opt": MountKind.VOLUME,
    "volume-label": MountKind.VOLUME,
    "volume-nocopy": MountKind.VOLUME,
    "tmpfs-size": MountKind.TMPFS,
    "tmpfs-mode": MountKind.TMPFS,
}
"""And the only kind of mount that the key is for."""


def mount(texts: Sequence[str]) -> Edit:
    """Mounts added; one at a target that has another takes its place."""
    added = [parsed(_mount, text, "--mount-add") for text in texts]
    _refuse_twice((one.target for one in added), "--mount-add")

    def edit(spec: ServiceSpec) -> ServiceSpec:
        if spec.task.runtime is not RuntimeKind.DOCKER:
            raise _unfit("a process sees the host's files as they are", "--mount-add")
        targets = {one.target for one in added}
        kept = [one for one in spec.task.mounts if one.target not in targets]
        return evolve(spec, task=evolve(spec.task, mounts=(*kept, *added)))

    return edit


def unmount(targets: Sequence[str]) -> Edit:
    """Without the mounts at these targets."""
    removed = [parsed(mounts.target, text, "--mount-rm") for text in targets]

    def edit(spec: ServiceSpec) -> ServiceSpec:
        present = {one.target: one for one in spec.task.mounts}
        _refuse_strangers(removed, present, "mount at", "--mount-rm")
        left = tuple(one for target, one in present.items() if target not in removed)
        return evolve(spec, task=evolve(spec.task, mounts=left))

    return edit


def _mount(text: str) -> Mount:
    given = fields(text, _MOUNT_KEYS, several=("volume-opt", "volume-label"))
    word = given.get("type", "volume")
    if word not in mounts.KINDS:
        raise Unfit(f"type={word:.40} is none of {', '.join(mounts.KINDS)}")
    kind, source = mounts.KINDS[word], given.get("source")
    for key in given.values:
        if _MOUNT_KEYS[key] not in (None, kind):
            raise Unfit(f"{key} is not for type={word}")
    if kind is MountKind.BIND and not source.startswith("/"):
        raise Unfit("type=bind needs source=/PATH, an absolute path of the host")
    if kind is MountKind.VOLUME and "/" in source:
        raise Unfit(f"source={source:.80} is no name of a volume; a path of the host is type=bind")
    if kind is MountKind.TMPFS and source:
        raise Unfit("a tmpfs has no source")
    propagation = given.get("bind-propagation")
    return Mount(
        kind=kind,
        target=mounts.target(given.needed("target")),
        source=source or None,
        read_only=given.flag("readonly"),
        propagation=mounts.propagation(propagation) if propagation else None,
        create_host_path=kind is not MountKind.BIND or given.flag("bind-create-src"),
        driver=given.get("volume-driver") or None,
        driver_options=given.pairs("volume-opt"),
        labels=given.pairs("volume-label"),
        no_copy=given.flag("volume-nocopy"),
        size_bytes=size(given.get("tmpfs-size", "0")),
        mode=given.octal("tmpfs-mode", 0o7777),
    )


# --- configs and secrets ------------------------------------------------------------------------


def use(kind: FileKind, texts: Sequence[str]) -> Edit:
    """Configs or secrets that its tasks have besides, in their newest content."""
    option = f"--{kind.value}-add"

    def edit(spec: ServiceSpec) -> ServiceSpec:
        present = list(spec.task.files)
        for text in texts:
            one = parsed(lambda text: _use(kind, text, spec.task.runtime), text, option)
            by_kind = spec.task.runtime is RuntimeKind.PROCESS
            for other in present:
                if other.target == one.target and (other.kind is kind or not by_kind):
                    raise _unfit(
                        f"{other.kind.value} {other.source} is at {other.target} already; take it "
                        f"off with --{other.kind.value}-rm {other.source}, or give a target",
                        option,
                    )
            present.append(one)
        return evolve(spec, task=evolve(spec.task, files=tuple(present)))

    return edit


def disuse(kind: FileKind, names: Sequence[str]) -> Edit:
    """Without these configs or secrets."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        had = [one.source for one in spec.task.files if one.kind is kind]
        _refuse_strangers(names, had, kind.value, f"--{kind.value}-rm")
        left = (one for one in spec.task.files if one.kind is not kind or one.source not in names)
        return evolve(spec, task=evolve(spec.task, files=tuple(left)))

    return edit


def _use(kind: FileKind, text: str, runtime: RuntimeKind) -> FileUse:
    given = fields(
        text if "=" in text else f"source={text}", ("source", "target", "uid", "gid", "mode")
    )
    source = files.full_name(given.needed("source"))
    return FileUse(
        kind=kind,
        source=source,
        target=files.target_of(kind, given.get("target") or source, runtime),
        uid=given.whole("uid", files.MAX_ID),
        gid=given.whole("gid", files.MAX_ID),
        mode=given.octal("mode", 0o777),
    )


# --- networks -----------------------------------------------------------------------------------


def join(texts: Sequence[str]) -> Edit:
    """Networks that its containers are in besides; `networks.as_known` says what they are."""
    added = [parsed(_network, text, "--network-add") for text in texts]
    _refuse_twice((one.name for one in added), "--network-add")

    def edit(spec: ServiceSpec) -> ServiceSpec:
        if spec.task.runtime is not RuntimeKind.DOCKER or spec.task.network_mode is not None:
            raise _unfit("its tasks are in no network of their own", "--network-add")
        names = {one.name for one in added}
        kept = [one for one in spec.task.networks if one.name not in names]
        return evolve(spec, task=evolve(spec.task, networks=(*kept, *added)))

    return edit


def leave(names: Sequence[str]) -> Edit:
    """Without these networks."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        present = spec.task.networks
        _refuse_strangers(names, [one.name for one in present], "network", "--network-rm")
        left = tuple(one for one in present if one.name not in names)
        return evolve(spec, task=evolve(spec.task, networks=left))

    return edit


def _network(text: str) -> NetworkUse:
    given = fields(
        text if "=" in text else f"name={text}", ("name", "alias", "external"), several=("alias",)
    )
    return NetworkUse(
        name=given.needed("name"),
        aliases=tuple(given.values.get("alias", ())),
        external=given.flag("external"),
    )


# --- devices and preferences --------------------------------------------------------------------


def reserve(texts: Sequence[str]) -> Edit:
    """Devices that each task has for itself besides: `gpu=1`; the kind's number is replaced."""
    added = [parsed(_device, text, "--generic-resource-add") for text in texts]
    _refuse_twice((one.kind for one in added), "--generic-resource-add")

    def edit(spec: ServiceSpec) -> ServiceSpec:
        kinds = {one.kind for one in added}
        kept = [one for one in spec.task.devices if one.kind not in kinds]
        return evolve(spec, task=evolve(spec.task, devices=(*kept, *added)))

    return edit


def release(kinds: Sequence[str]) -> Edit:
    """Without devices of these kinds."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        present = spec.task.devices
        names = [one.kind for one in present]
        _refuse_strangers(kinds, names, "device of kind", "--generic-resource-rm")
        left = tuple(one for one in present if one.kind not in kinds)
        return evolve(spec, task=evolve(spec.task, devices=left))

    return edit


def _device(text: str) -> DeviceRequest:
    kind, _, number = text.partition("=")
    is_number = number.isascii() and number.isdigit() and len(number) < 10
    if not kind or not is_number or not 1 <= int(number) <= placements.MAX_DEVICES:
        raise Unfit(f"`{text:.80}` is not KIND=NUMBER, at most {placements.MAX_DEVICES}")
    return DeviceRequest(kind=kind, count=int(number))


def prefer(texts: Sequence[str]) -> Edit:
    """Labels to spread over besides, after those that are there."""
    added = [parsed(_preference, text, "--placement-pref-add") for text in texts]

    def edit(spec: ServiceSpec) -> ServiceSpec:
        over = tuple(dict.fromkeys((*spec.task.placement.spread_over, *added)))
        return _placed(spec, over)

    return edit


def max_skew(most: int) -> Edit:
    """Another limit of how far the first preference's values may be apart."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        if most and (spec.mode.is_global or not spec.task.placement.spread_over):
            raise _unfit(
                "it needs a preference, as --placement-pref-add spread=node.labels.zone, and not "
                "to be global",
                "--max-skew",
            )
        return evolve(
            spec, task=evolve(spec.task, placement=evolve(spec.task.placement, max_skew=most))
        )

    return edit


def no_longer_prefer(texts: Sequence[str]) -> Edit:
    """Without these labels to spread over."""
    removed = [parsed(_preference, text, "--placement-pref-rm") for text in texts]

    def edit(spec: ServiceSpec) -> ServiceSpec:
        present = spec.task.placement.spread_over
        _refuse_strangers(removed, present, "preference for", "--placement-pref-rm")
        return _placed(spec, tuple(one for one in present if one not in removed))

    return edit


def _placed(spec: ServiceSpec, over: tuple[str, ...]) -> ServiceSpec:
    placement = evolve(spec.task.placement, spread_over=over)
    return evolve(spec, task=evolve(spec.task, placement=placement))


def _preference(text: str) -> str:
    word, equals, key = text.partition("=")
    if word != "spread" or not equals:
        raise Unfit(f"`{text:.80}` is not spread=node.labels.NAME")
    return placements.spread_key(key)


# --- words --------------------------------------------------------------------------------------


def _refuse_twice(keys: Iterable[str], option: str) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise _unfit(f"names {key} twice", option)
        seen.add(key)


def _refuse_strangers(
    wanted: Iterable[str], present: Collection[str], what: str, option: str
) -> None:
    for key in wanted:
        if key not in present:
            raise _unfit(f"it has no {what} {key}; it has {_some(present)}", option)


def _some(names: Iterable[str]) -> str:
    listed = sorted(set(names))
    more = f" and {len(listed) - _MOST_IN_HINT} more" if len(listed) > _MOST_IN_HINT else ""
    return (", ".join(listed[:_MOST_IN_HINT]) or "none") + more


def _unfit(message: str, option: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint=option)
