"""Where tasks run, beside constraints: preferences, rules between services, devices.

What a rule names is checked against the stack's services here; what is none of them is taken for
the full name of a service of another stack.
"""

import re
from collections.abc import Collection
from typing import Any

from meshswarm.compose.cursor import Cursor, Section
from meshswarm.compose.report import Unfit
from meshswarm.compose.shapes import applied, section, text
from meshswarm.model.placement import Affinity, Placement, Strategy
from meshswarm.model.resources import DeviceRequest
from meshswarm.model.service import Mode

MAX_PRIORITY = 1_000
MAX_DEVICES = 1_000
MAX_RULES = 100
"""Rules of one service about others."""

_LABELS = ("node.labels.", "engine.labels.")
_PLATFORM = re.compile(r"[a-z0-9]+(/[a-z0-9_-]+(/v[0-9]+)?)?")


def spread_key(text: str) -> str:
    """The label over whose values to spread: `node.labels.zone`."""
    lower = text.strip().lower()
    for prefix in _LABELS:
        if lower.startswith(prefix) and len(lower) > len(prefix):
            return prefix + text.strip()[len(prefix) :]
    raise Unfit(f"`{text:.80}` is no label; write node.labels.NAME or engine.labels.NAME")


def platform(text: str) -> str:
    """`OS[/ARCH[/VARIANT]]`."""
    if not _PLATFORM.fullmatch(text.lower()):
        raise Unfit(f"`{text:.40}` is no platform; write linux/amd64 or linux/arm64")
    return text.lower()


def device_count(cursor: Cursor) -> int:
    """How many devices: a number from 1, or `all` (0)."""
    value = cursor.scalar()
    if value == "all":
        return 0
    if isinstance(value, str) and value.isdigit():
        value = int(value[:9])
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_DEVICES:
        raise Unfit(f"must be `all`, or a number from 1 to {MAX_DEVICES}")
    return value


def rules(cursor: Cursor) -> tuple[tuple[str, bool, Cursor], ...]:
    """Services, each by its name or as `{service, required}`; with their places."""
    found: list[tuple[str, bool, Cursor]] = []
    for item in cursor.items():
        rule = applied(_long_rule if item.kind == "a mapping" else _short_rule, item)
        if rule is not None:
            found.append((*rule, item))
    if len(found) > MAX_RULES:
        cursor.fault(f"names {len(found)} services; {MAX_RULES} is the most")
    return tuple(found)


def _short_rule(cursor: Cursor) -> tuple[str, bool]:
    return text(cursor), True


def _long_rule(cursor: Cursor) -> tuple[str, bool] | None:
    long = section(cursor)
    if long is None:
        return None
    if "service" not in long.values:
        if "service" not in long.places:
            cursor.fault("needs a `service`")
        return None
    return long.get("service"), long.get("required", True)


# --- to the model -------------------------------------------------------------------------------


def placement_of(
    deploy: Section, own: Section | None, stack: str, services: Collection[str]
) -> Placement:
    """What `deploy.placement` and `x-meshswarm.placement` say together."""
    placed: Section | None = deploy.get("placement")
    wished: Section | None = own.get("placement") if own else None
    defaults = Placement()
    preferences = placed.get("preferences", ()) if placed else ()
    if wished and "max_skew" in wished.places:
        mode: Mode = deploy.get("mode", Mode.REPLICATED)
        if mode.is_global:
            wished.at("max_skew").fault("a global service has one task on every node")
        elif not preferences and not (placed and placed.is_wrong("preferences")):
            wished.at("max_skew").fault(
                "needs a label to go by, as in `deploy.placement: {preferences: "
                "[{spread: node.labels.zone}]}`"
            )
    return Placement(
        strategy=wished.get("strategy", defaults.strategy) if wished else defaults.strategy,
        spread_over=tuple(key for one in preferences if (key := _preference(one)) is not None),
        max_skew=wished.get("max_skew", 0) if wished else 0,
        max_replicas_per_node=placed.get("max_replicas_per_node", 0) if placed else 0,
        affinities=(
            *_affinities(wished, "affinity", False, stack, services),
            *_affinities(wished, "anti_affinity", True, stack, services),
        ),
    )


def _preference(one: Section) -> str | None:
    if "spread" not in one.places:
        one.cursor.fault("needs a `spread`: it is the only preference there is")
    key: str | None = one.get("spread")
    return key


def _affinities(
    wished: Section | None, key: str, is_apart: bool, stack: str, services: Collection[str]
) -> list[Affinity]:
    found: list[Affinity] = []
    for name, is_required, place in wished.get(key, ()) if wished else ():
        if any(rule.service == _full_name(name, stack, services) for rule in found):
            place.fault(f"names `{name:.80}` a second time")
        full = _full_name(name, stack, services)
        found.append(Affinity(service=full, is_apart=is_apart, is_required=is_required))
    return found


def _full_name(name: str, stack: str, services: Collection[str]) -> str:
    return f"{stack}_{name}" if name in services else name


def devices_of(deploy: Section) -> tuple[DeviceRequest, ...]:
    """What `generic_resources` and `devices` reserve."""
    resources: Section | None = deploy.get("resources")
    reserved: Section | None = resources.get("reservations") if resources else None
    if reserved is None:
        return ()
    wanted = [_generic(one) for one in reserved.get("generic_resources", ())]
    wanted += [_device(one) for one in reserved.get("devices", ())]
    return tuple(request for request in wanted if request is not None)


def _generic(one: Section) -> DeviceRequest | None:
    spec: Section | None = one.get("discrete_resource_spec")
    if spec is None:
        if "discrete_resource_spec" not in one.places:
            one.cursor.fault("needs a `discrete_resource_spec`: {kind: gpu, value: 1}")
        return None
    if "kind" not in spec.places:
        spec.cursor.fault("needs a `kind`")
    kind: str | None = spec.get("kind")
    return None if kind is None else DeviceRequest(kind=kind, count=spec.get("value", 1))


def _device(one: Section) -> DeviceRequest | None:
    capabilities: tuple[str, ...] = one.get("capabilities", ())
    if not capabilities:
        if not one.is_wrong("capabilities"):
            one.cursor.fault("needs `capabilities`, such as [gpu]")
        return None
    if "count" in one.places and "device_ids" in one.places:
        one.at("count").fault("say either `count` or `device_ids`")
    options: dict[str, Any] = one.get("options", {})
    return DeviceRequest(
        kind=capabilities[0],
        count=one.get("count", 0),
        ids=one.get("device_ids", ()),
        driver=one.get("driver", ""),
        capabilities=capabilities,
        options=options,
    )


STRATEGIES = {strategy.value: strategy for strategy in Strategy}
