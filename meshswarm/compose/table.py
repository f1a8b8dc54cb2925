"""The attribute table: every attribute of Compose, what it looks like, and how far it is supported.

One row an attribute. The loader reads, refuses and explains by this table alone, and the reference
of what is supported is this table printed; to support another attribute, change its row.
"""

from meshswarm.compose import (
    files,
    health,
    mounts,
    networks,
    order,
    placements,
    ports,
    shapes,
    texts,
    triggers,
)
from meshswarm.compose.attribute import Table
from meshswarm.compose.keeping import DEFINITION, NETWORK, USE, VOLUME
from meshswarm.compose.rows import PASSED as _PASSED
from meshswarm.compose.rows import Rows as _Rows
from meshswarm.compose.rows import ignored as _ignored
from meshswarm.compose.rows import later as _later
from meshswarm.compose.rows import refused as _refused
from meshswarm.compose.rows import under as _under
from meshswarm.compose.rows import yes as _yes
from meshswarm.compose.shapes import (
    choice,
    list_of,
    names_of,
    optional_text,
    section,
    text,
    whole,
    written,
)
from meshswarm.model.job import Concurrency, MissedFires
from meshswarm.model.rollout import FailureAction, UpdateOrder
from meshswarm.model.service import Mode, RestartCondition, RuntimeKind

MAX_KEPT = 1_000
"""Runs of a job that may be kept, of either end."""

MAX_COUNT = 1_000_000
"""Largest number of replicas, retries, attempts or processes."""

_LIMITS = "write it under `deploy.resources` instead"
_NETWORKS = "networks across hosts come with a later release; remove it"
_BUILD = "images are built beforehand: `docker build`, push, and name the image here"
_ONE_FILE = "only one file is read yet; write it out here"
_DEAD = "the official Compose has no such thing any more; remove it"

_TOP: _Rows = (
    _yes("name", text, "Name of the stack; `--name` wins, the directory's name is the default"),
    _ignored("version", "`version` means nothing any more and is ignored; remove it"),
    _yes("services", names_of("service"), "The services by name"),
    _yes("services.*", section, "A service"),
    _yes("volumes", names_of("volume"), "Named volumes"),
    _yes("volumes.*", section, "A named volume", nullable=True),
    _yes("networks", names_of("network"), "Networks by name; each node has its own"),
    _yes("networks.*", section, "A network", nullable=True),
    _yes("configs", names_of("config"), "Files that the cluster keeps for services"),
    _yes("configs.*", section, "A config"),
    _yes("secrets", names_of("secret"), "The same for what nobody else may see"),
    _yes("secrets.*", section, "A secret"),
    *_later("include", _ONE_FILE),
    _yes("jobs", names_of("job"), "What runs to its end, by hand or on a schedule, by name"),
    _yes("jobs.*", section, "A job: a service's attributes, and what triggers it"),
    *_refused("models", "models are not run here; run one as a service"),
)

_SERVICE: _Rows = (
    _yes("image", text, "Image to run; required by the docker runtime, unused by process"),
    _yes("command", shapes.command, "Replaces the image's command", nullable=True),
    _yes("entrypoint", shapes.command, "Replaces the image's entrypoint", nullable=True),
    _yes("environment", shapes.environment, "Variables; a name alone is taken from outside"),
    _yes("env_file", shapes.environment_files, "Files with variables; `environment` wins"),
    _yes("env_file.*.path", shapes.path, "The file, seen from the project directory"),
    _yes("env_file.*.required", shapes.flag, "false: the file may be missing"),
    _yes("env_file.*.format", shapes.environment_format, "raw: values are taken as they stand"),
    _yes("working_dir", optional_text, "Directory in which the command starts"),
    _yes("user", optional_text, "USER, UID, USER:GROUP or UID:GID"),
    _yes("labels", shapes.labels, "Labels of each container"),
    _yes("ports", ports.ports, "Ports published on the node that runs the task"),
    _yes(
        "volumes",
        mounts.mounts,
        "Paths of the host, named volumes and tmpfs",
        not_in_process="a process sees the host's files as they are; use `working_dir`",
    ),
    _yes(
        "platform",
        written(placements.platform),
        "OS/ARCH of its image and of its nodes",
    ),
    _yes("healthcheck", section, "A command that says whether the task is well"),
    _yes("stop_signal", written(texts.signal), "Signal that asks it to end"),
    _yes("stop_grace_period", shapes.duration, "From that signal to SIGKILL"),
    _yes("depends_on", order.waits, "Services that must be so far before its first tasks start"),
    _yes(
        "depends_on.*.condition",
        choice(order.CONDITIONS),
        "service_started, service_healthy or service_completed_successfully",
    ),
    _yes("depends_on.*.restart", shapes.flag, "true: an update of that one restarts this (false)"),
    _yes("depends_on.*.required", shapes.flag, "false: not waited for if it is missing or fails"),
    _yes("deploy", section, "How many, where and with what", nullable=True),
    _yes("x-meshswarm", section, "What Compose has no words for"),
    _yes(
        "x-meshswarm.runtime",
        choice({kind.value: kind for kind in RuntimeKind}),
        "docker, or process: a plain process on the node, without an image",
    ),
    _yes(
        "x-meshswarm.priority",
        whole(-placements.MAX_PRIORITY, placements.MAX_PRIORITY),
        "Tasks of services with a smaller one make way for its tasks (0)",
    ),
    _yes(
        "x-meshswarm.max_unavailable",
        written(texts.most_missing, number=True),
        "So many tasks, or 25% of them, may be missing by our own doing; default: all",
    ),
    _yes(
        "x-meshswarm.on_config_change",
        section,
        "Other content of configs and secrets comes to running tasks in place",
    ),
    _yes(
        "x-meshswarm.on_config_change.signal",
        written(files.signal),
        "Sent to each task then: SIGHUP, or none",
    ),
    _yes(
        "x-meshswarm.max_concurrent",
        whole(1, MAX_COUNT),
        "Of a replicated job: tasks under way at a time; default: `deploy.replicas`",
    ),
    _yes(
        "x-meshswarm.active_deadline",
        shapes.duration,
        "Of a job: not complete so long after its start it has failed; default: no limit",
    ),
    _yes("x-meshswarm.probes", section, "What its agent asks it, beside `healthcheck`"),
    _yes(
        "x-meshswarm.lost_after",
        shapes.duration,
        "Its node may be silent so long before it is replaced; at least the cluster's `down_ms`",
    ),
    _yes(
        "x-meshswarm.stop_after",
        shapes.duration,
        "An agent that no manager knows of so long stops it, so that at most one runs",
    ),
    _yes("x-meshswarm.placement", section, "Which of the nodes that fit is taken"),
    *_under(
        "x-meshswarm.placement",
        _yes(
            "strategy",
            choice(placements.STRATEGIES),
            "spread (default), binpack: the fullest, or balanced: the least used",
        ),
        _yes(
            "max_skew",
            whole(1, MAX_COUNT),
            "How many tasks a value of the first spread preference may be ahead of the emptiest",
        ),
        _yes("affinity", placements.rules, "Services on whose nodes it runs"),
        _yes("affinity.*.service", text, "Its name in this file, or its full name"),
        _yes("affinity.*.required", shapes.flag, "false: if it can be had (true)"),
        _yes("anti_affinity", placements.rules, "Services from whose nodes it keeps away"),
        _yes("anti_affinity.*.service", text, "Its name in this file, or its full name"),
        _yes("anti_affinity.*.required", shapes.flag, "false: if it can be had (true)"),
    ),
    _yes("x-meshswarm.update_config", section, "What `deploy.update_config` lacks"),
    _yes("x-meshswarm.rollback_config", section, "What `deploy.rollback_config` lacks"),
    _yes(
        "networks",
        networks.uses,
        "Networks in which the tasks of one node find each other by name (default)",
        not_in_process="a process has the host's network",
    ),
    _yes("networks.*", section, "How it is in that network", nullable=True),
    _yes("networks.*.aliases", list_of(text), "Further names by which it is found there"),
    *_later("networks.*.ipv4_address networks.*.ipv6_address networks.*.mac_address", _PASSED),
    *_later("networks.*.link_local_ips networks.*.priority networks.*.gw_priority", _PASSED),
    *_later("networks.*.driver_opts networks.*.interface_name", _PASSED),
    _yes(
        "network_mode",
        written(networks.mode),
        "host: the host's own network; none: no network",
        not_in_process="a process has the host's network",
    ),
    *_later("links external_links hostname domainname dns dns_opt", _NETWORKS),
    *_later("dns_search extra_hosts mac_address expose", _NETWORKS),
    _yes("configs", files.uses, "Configs that its tasks have as files"),
    _yes("secrets", files.uses, "Secrets that its tasks have as files"),
    *_later("restart", "write `deploy.restart_policy.condition`: any, on-failure or none"),
    *_later("scale", "write `deploy.replicas`"),
    *_later("cpus mem_limit mem_reservation pids_limit", _LIMITS),
    *_later("cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime", _LIMITS),
    *_later("cpu_shares cpuset mem_swappiness memswap_limit", _LIMITS),
    *_later("tmpfs", "write it under `volumes`: {type: tmpfs, target: PATH}"),
    *_later("extends", _ONE_FILE),
    *_later("profiles", "profiles come with a later release; remove it"),
    *_later("annotations blkio_config cap_add cap_drop cgroup cgroup_parent", _PASSED),
    *_later("credential_spec device_cgroup_rules devices gpus group_add init ipc", _PASSED),
    *_later("isolation label_file logging oom_kill_disable oom_score_adj pid", _PASSED),
    *_later("post_start pre_start pre_stop privileged pull_policy pull_refresh_after", _PASSED),
    *_later("read_only runtime security_opt shm_size stdin_open storage_opt sysctls", _PASSED),
    *_later("tty ulimits umask userns_mode uts", _PASSED),
    *_later("build", _BUILD),
    *_refused("container_name", "each replica's container has a name of its own; remove it"),
    *_refused("develop attach", "it is for `docker compose up` on one's own machine; remove it"),
    *_refused("volumes_from volume_driver", "name the volume under `volumes`"),
    *_refused("provider models", "only containers and processes are run here"),
    *_refused("use_api_socket", "mount the engine's socket under `volumes` if you trust the image"),
    *_refused("log_driver log_opt net", _DEAD),
)

_PORT: _Rows = (
    _yes("target", whole(1, 65535), "Port of the container"),
    _yes("published", ports.published, "Port of the node; left out or 0: a free one"),
    _yes("protocol", choice(ports.PROTOCOLS), "tcp, udp or sctp"),
    _yes("host_ip", written(ports.address), "The node's address to listen on"),
    _yes("mode", ports.host_mode, "host"),
    *_later("name app_protocol", _PASSED),
)

_MOUNT: _Rows = (
    _yes(
        "type",
        choice(mounts.KINDS, later=("image", "npipe", "cluster")),
        "bind (a path of the host), volume or tmpfs",
    ),
    _yes("source", text, "Path on the host, or name of a volume"),
    _yes("target", written(mounts.target), "Path in the container"),
    _yes("read_only", shapes.flag, "Mount it read-only"),
    _yes("bind", section, "Options of a bind"),
    _yes("bind.propagation", written(mounts.propagation), "How mounts below it spread"),
    _yes("bind.create_host_path", shapes.flag, "Make the directory if it is missing (default)"),
    _yes("bind.selinux", written(mounts.selinux), "z (shared) or Z (private)"),
    _yes("volume", section, "Options of a volume"),
    _yes("volume.nocopy", shapes.flag, "Do not fill a new volume from the image"),
    _yes("tmpfs", section, "Options of a tmpfs"),
    _yes("tmpfs.size", written(texts.size, number=True), "Size, 64m; default: the engine's"),
    _yes("tmpfs.mode", mounts.file_mode, "Permission bits of its root, 0770"),
    _ignored("consistency", "`consistency` has no effect on Linux"),
    *_later("bind.recursive volume.subpath volume.labels image", _PASSED),
)

_HEALTHCHECK: _Rows = (
    _yes("test", shapes.command_or_line, "[CMD, ...], [CMD-SHELL, LINE], NONE, or a shell line"),
    _yes("interval", shapes.duration, "Between two probes (30s)"),
    _yes("timeout", shapes.duration, "For one probe (30s)"),
    _yes("retries", whole(0, MAX_COUNT), "Failures in a row that make it unhealthy (3)"),
    _yes("start_period", shapes.duration, "Failures this early do not count (0s)"),
    _yes("start_interval", shapes.duration, "Between probes of the start period (5s)"),
    _yes("disable", shapes.flag, "Ignore the image's own health check as well"),
)

_PROBE: _Rows = (
    _yes("http", section, "A GET of the task's address"),
    _yes("http.port", whole(1, 65535), "The task's own port, published or not"),
    _yes("http.path", health.path, "Path and query (/)"),
    _yes("http.headers", shapes.options, "Headers beside the usual ones"),
    _yes(
        "http.status", written(health.status, number=True), "What is well: 200, 200-299 (200-399)"
    ),
    _yes("http.https", shapes.flag, "true: over TLS, whatever the certificate"),
    _yes("tcp", section, "A connection to the task's address"),
    _yes("tcp.port", whole(1, 65535), "The task's own port, published or not"),
    _yes("command", shapes.command_or_line, "A command beside the task; a text is a shell line"),
    _yes("interval", shapes.duration, "Between two checks (10s)"),
    _yes("timeout", shapes.duration, "For one check (1s)"),
    _yes("failure_threshold", whole(1, MAX_COUNT), "Failures in a row that make it failing (3)"),
    _yes("success_threshold", whole(1, MAX_COUNT), "Successes in a row that make it well (1)"),
    _yes("initial_delay", shapes.duration, "Before the first check (0s)"),
    _yes("start_period", shapes.duration, "Failures this early do not count (0s)"),
    _yes("start_interval", shapes.duration, "Between checks of the start period (1s)"),
)

_PROBES: _Rows = (
    _yes("startup", section, "Has it started? Until then no other counts; failing, it is replaced"),
    *_under("startup", *_PROBE),
    _yes("readiness", section, "Can it take work? Failing, it is not ready, and runs on"),
    *_under("readiness", *_PROBE),
    _yes("liveness", section, "Does it live? Failing, it is replaced"),
    *_under("liveness", *_PROBE),
)

_DEPLOY: _Rows = (
    _yes(
        "mode",
        choice({mode.value: mode for mode in Mode}),
        "replicated, or global: one on every node that fits; with -job its tasks run to their end",
    ),
    _yes("replicas", whole(0, MAX_COUNT), "How many; of a job: completions (1)"),
    _yes("labels", shapes.labels, "Labels of the service itself"),
    _yes("resources", section, "What it may use, and what it needs"),
    _yes("resources.limits", section, "What each task may use at most"),
    _yes("resources.limits.cpus", written(texts.cpus, number=True), "Processors, 0.5"),
    _yes("resources.limits.memory", written(texts.size, number=True), "Memory, 512m"),
    _yes("resources.limits.pids", whole(-1, MAX_COUNT), "Processes; 0 and -1: no limit"),
    _yes("resources.reservations", section, "What a node must have free for each task"),
    _yes("resources.reservations.cpus", written(texts.cpus, number=True), "Processors, 0.5"),
    _yes("resources.reservations.memory", written(texts.size, number=True), "Memory, 512m"),
    _yes(
        "resources.reservations.generic_resources",
        list_of(section),
        "Devices by kind, counted: the task has them for itself alone",
    ),
    _yes("resources.reservations.generic_resources.*.discrete_resource_spec", section, "One kind"),
    *_under(
        "resources.reservations.generic_resources.*.discrete_resource_spec",
        _yes("kind", text, "What the node's settings call it: gpu, ssd"),
        _yes("value", whole(1, placements.MAX_DEVICES), "How many (1)"),
    ),
    *_later("resources.reservations.generic_resources.*.named_resource_spec", _PASSED),
    _yes(
        "resources.reservations.devices",
        list_of(section),
        "Devices such as GPUs: the task has them for itself alone",
    ),
    *_under(
        "resources.reservations.devices.*",
        _yes("capabilities", list_of(text), "[gpu]; the first is the kind in the node's settings"),
        _yes("count", placements.device_count, "How many, or all (default)"),
        _yes("device_ids", list_of(text), "Exactly these, instead of `count`"),
        _yes("driver", text, "Driver, as the engine knows it: nvidia"),
        _yes("options", shapes.options, "Options of the driver"),
    ),
    *_refused("resources.reservations.pids", "processes can only be limited, not reserved"),
    _yes("restart_policy", section, "When an ended task is replaced"),
    _yes(
        "restart_policy.condition",
        choice(
            {condition.value: condition for condition in RestartCondition}
            | dict.fromkeys(("always", "unless-stopped"), RestartCondition.ANY)
        ),
        "any (default), on-failure or none; always and unless-stopped mean any",
    ),
    _yes("restart_policy.delay", shapes.duration, "Before the second one; then it doubles"),
    _yes("restart_policy.max_attempts", whole(0, MAX_COUNT), "Then give up; 0: never"),
    _yes("restart_policy.window", shapes.duration, "Attempts within it count (0: all)"),
    _yes("placement", section, "Where it may run"),
    _yes("placement.constraints", list_of(written(texts.constraint)), "node.labels.disk == ssd"),
    _yes("placement.preferences", list_of(section), "What to spread over, in this order"),
    _yes(
        "placement.preferences.*.spread",
        written(placements.spread_key),
        "node.labels.zone: evenly over its values",
    ),
    _yes("placement.max_replicas_per_node", whole(0, MAX_COUNT), "At most so many; 0: no limit"),
    *_later("endpoint_mode", _NETWORKS),
)

_ROLLOUT: _Rows = (
    _yes("parallelism", whole(0, MAX_COUNT), "Slots under way at a time (1); 0: all"),
    _yes("delay", shapes.duration, "From a new task that is well to the next slot (0s)"),
    _yes("monitor", shapes.duration, "A task that ends this early has failed (5s)"),
    _yes("max_failure_ratio", written(texts.ratio, number=True), "Share that may fail (0)"),
    _yes(
        "order",
        choice({order.value: order for order in UpdateOrder}),
        "stop-first (default), or start-first: the old task runs until the new one is well",
    ),
)

_UPDATE: _Rows = (
    _yes("update_config", section, "How a change comes to its tasks"),
    *_under("update_config", *_ROLLOUT),
    _yes(
        "update_config.failure_action",
        choice({action.value: action for action in FailureAction}),
        "After too many failures: pause (default), continue or rollback",
    ),
    _yes("rollback_config", section, "How it goes back to what ran before"),
    *_under("rollback_config", *_ROLLOUT),
    _yes(
        "rollback_config.failure_action",
        choice({a.value: a for a in FailureAction if a is not FailureAction.ROLLBACK}),
        "After too many failures: pause (default) or continue",
    ),
)

_OWN_ROLLOUT: _Rows = (
    _yes("min_healthy", shapes.duration, "A task is well once it was healthy so long (2s)"),
    _yes("healthy_deadline", shapes.duration, "Not well so long after its creation: failed (5m)"),
    _yes("progress_deadline", shapes.duration, "No slot came to be well for so long: failed (10m)"),
    _yes("step", shapes.flag, "true: pause after each step until `meshswarm service resume`"),
)

_LONG_LIVED = "attach container_name deploy develop extends external_links links post_start"
_LONG_LIVED += " pre_start pre_stop provider restart scale"
_NO_ROLLOUT = ("x-meshswarm.update_config", "x-meshswarm.rollback_config")

_JOB: _Rows = (
    *(
        row
        for row in _SERVICE
        if row.path not in _LONG_LIVED.split() and row.path not in _NO_ROLLOUT
    ),
    *_refused(
        _LONG_LIVED.replace(" deploy", ""),
        "it is for services, which run until they are stopped; remove it",
    ),
    *_refused(
        "deploy", "a job has none in Compose; what it needs of it stands under `x-meshswarm.deploy`"
    ),
    _yes("triggers", section, "What runs it"),
    _yes("triggers.manual", shapes.flag, "false: not by `meshswarm job run`"),
    _yes("triggers.schedule", triggers.schedules, "When it runs by itself; one entry"),
    *_under(
        "triggers.schedule.*",
        _yes("cron", text, "Minute, hour, day of the month, month, day of the week"),
        _yes("timezone", text, "IANA name, Europe/Paris (UTC)"),
        _yes(
            "concurrency",
            choice({c.value: c for c in (Concurrency.FORBID, Concurrency.QUEUE)}),
            "While a run is under way: forbid (default) skips, queue waits",
        ),
        _yes(
            "missed_fires",
            choice({one.value: one for one in MissedFires}),
            "one (default) run makes up for those missed, or skip",
        ),
    ),
    _yes("x-meshswarm.deploy", section, "How often, where and with what each run runs"),
    _yes(
        "x-meshswarm.concurrency",
        choice({c.value: c for c in (Concurrency.ALLOW, Concurrency.REPLACE)}),
        "What `triggers.schedule` lacks: allow runs beside, replace stops the present run",
    ),
    _yes(
        "x-meshswarm.starting_deadline",
        shapes.duration,
        "A fire that could not begin so long after its time is skipped",
    ),
    _yes("x-meshswarm.history", section, "How many runs that are over are kept"),
    _yes("x-meshswarm.history.complete", whole(0, MAX_KEPT), "Those that completed (3)"),
    _yes("x-meshswarm.history.failed", whole(0, MAX_KEPT), "Those that failed (3)"),
)

TABLE: Table = {
    row.path: row
    for row in (
        *_TOP,
        *_under("services.*", *_SERVICE),
        *_under("services.*.ports.*", *_PORT),
        *_under("services.*.volumes.*", *_MOUNT),
        *_under("services.*.healthcheck", *_HEALTHCHECK),
        *_under("services.*.x-meshswarm.probes", *_PROBES),
        *_under("services.*.x-meshswarm.update_config", *_OWN_ROLLOUT),
        *_under("services.*.x-meshswarm.rollback_config", *_OWN_ROLLOUT),
        *_under("services.*.deploy", *_DEPLOY, *_UPDATE),
        *_under("services.*.configs.*", *USE),
        *_under("services.*.secrets.*", *USE),
        *_under("volumes.*", *VOLUME),
        *_under("networks.*", *NETWORK),
        *_under("configs.*", *DEFINITION),
        *_under("secrets.*", *DEFINITION),
        *_under("jobs.*", *_JOB),
        *_under("jobs.*.ports.*", *_PORT),
        *_under("jobs.*.volumes.*", *_MOUNT),
        *_under("jobs.*.healthcheck", *_HEALTHCHECK),
        *_under("jobs.*.configs.*", *USE),
        *_under("jobs.*.secrets.*", *USE),
        *_under("jobs.*.x-meshswarm.deploy", *_DEPLOY),
    )
}
