"""What `service update` adds to and takes off a service's lists, and its health check."""

import pytest
from attrs import evolve

from meshswarm.cli.main import main
from meshswarm.ids import Version
from meshswarm.model.file import FileKind, FileUse
from meshswarm.model.network import NetworkMode, NetworkUse, Port, Protocol
from meshswarm.model.placement import Placement
from meshswarm.model.resources import DeviceRequest, Resources
from meshswarm.model.rollout import FailureAction
from meshswarm.model.service import (
    HealthCheck,
    Mode,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
)
from meshswarm.model.volume import Mount, MountKind
from meshswarm.store.commands import PutConfig, PutService
from tests.support.fake_cluster import FakeClient, cluster_of, service, then

Capture = pytest.CaptureFixture[str]

BACK = NetworkUse(name="shop_back", internal=True, labels={"a": "b"})
DATA = Mount(kind=MountKind.VOLUME, source="data", target="/data")
CONF = FileUse(kind=FileKind.CONFIG, source="conf", target="/conf")
WEB = ServiceSpec(
    name="web",
    task=TaskSpec(
        image="web:1",
        ports=(Port(target=80, published=8080), Port(target=53, protocol=Protocol.UDP)),
        mounts=(DATA,),
        files=(CONF,),
    ),
)
DB = ServiceSpec(name="db", task=TaskSpec(image="db", networks=(BACK,)))


@pytest.fixture
def client() -> FakeClient:
    view = then(
        cluster_of("n1"),
        PutConfig(name="conf", data=b"1"),
        PutConfig(name="more", data=b"2"),
        PutService(spec=WEB),
        PutService(spec=DB),
        PutService(spec=evolve(service("proc", 1), name="proc")),
        PutService(spec=evolve(service("batch", 1), mode=Mode.REPLICATED_JOB)),
    )
    return FakeClient(view)


def update(client: FakeClient, *arguments: str, name: str = "web") -> TaskSpec:
    """The task's spec after `service update`, with configs at whatever version they have."""
    assert main(["service", "update", name, *arguments, "-d"], client.connect) == 0
    return client.view.find_service(name).spec.task


def test_ports_come_and_go(client: FakeClient) -> None:
    task = update(client, "--publish-add", "127.0.0.1:9000-9001:90-91", "--publish-add", "8080:80")
    assert task.ports == (
        *WEB.task.ports,
        Port(target=90, published=9000, host_ip="127.0.0.1"),
        Port(target=91, published=9001, host_ip="127.0.0.1"),
    )
    long = "published=443,target=8443,protocol=tcp,mode=host,host_ip=::1"
    task = update(client, "--publish-rm", "90", "--publish-rm", "53/udp", "--publish-add", long)
    assert task.ports == (
        Port(target=80, published=8080),
        Port(target=91, published=9001, host_ip="127.0.0.1"),
        Port(target=8443, published=443, host_ip="::1"),
    )
    task = update(client, "--publish-rm", "8080:80", "--publish-add", "8081:80")
    assert Port(target=80, published=8081) in task.ports
    assert Port(target=80, published=8080) not in task.ports
    own = Port(target=7000, published=7000)
    assert (own,) == update(client, "--publish-add", "7000", name="proc").ports


def test_mounts_come_and_go_and_take_each_others_place(client: FakeClient) -> None:
    nfs = "type=volume,src=shared,dst=/shared,volume-driver=local,volume-opt=type=nfs,"
    task = update(
        client,
        *("--mount-add", nfs + '"volume-opt=o=addr=h,rw",volume-label=a=b,volume-nocopy'),
        *("--mount-add", "type=bind,source=/srv,target=/data/,ro,bind-propagation=rslave"),
        *("--mount-add", "type=tmpfs,target=/tmp,tmpfs-size=1m,tmpfs-mode=1770"),
    )
    assert task.mounts == (
        Mount(
            kind=MountKind.VOLUME,
            source="shared",
            target="/shared",
            driver="local",
            driver_options={"type": "nfs", "o": "addr=h,rw"},
            labels={"a": "b"},
            no_copy=True,
        ),
        Mount(
            kind=MountKind.BIND,
            source="/srv",
            target="/data",
            read_only=True,
            propagation="rslave",
            create_host_path=False,
        ),
        Mount(kind=MountKind.TMPFS, target="/tmp", size_bytes=1 << 20, mode=0o1770),
    )
    task = update(client, "--mount-rm", "/data", "--mount-rm", "/tmp/", "--mount-add", "dst=/x")
    assert ["/shared", "/x"] == [mount.target for mount in task.mounts]
    assert Mount(kind=MountKind.VOLUME, target="/x") == task.mounts[1], "an anonymous volume"


def test_configs_and_secrets_come_and_go_and_the_others_keep_their_content(
    client: FakeClient,
) -> None:
    assert main(["secret", "create", "key", "--literal", "x"], client.connect) == 0
    pinned = client.view.find_service("web").spec.task.files[0].version
    assert pinned > 0
    task = update(
        client,
        *("--secret-add", "key", "--config-add", "more"),
        *("--secret-add", "source=key,target=/tls/key,uid=0,gid=5,mode=0400"),
    )
    assert [evolve(one, version=Version(0)) for one in task.files] == [
        CONF,
        FileUse(kind=FileKind.CONFIG, source="more", target="/more"),
        FileUse(kind=FileKind.SECRET, source="key", target="/run/secrets/key"),
        FileUse(kind=FileKind.SECRET, source="key", target="/tls/key", uid=0, gid=5, mode=0o400),
    ]
    assert pinned == task.files[0].version
    assert all(one.version for one in task.files)
    task = update(client, "--secret-rm", "key", "--config-rm", "conf")
    assert ["more"] == [one.source for one in task.files]
    task = update(client, "--config-rm", "more", "--config-add", "source=more,target=/conf")
    assert ["/conf"] == [one.target for one in task.files]
    both = update(client, "--config-add", "conf", "--secret-add", "src=key,dst=conf", name="proc")
    assert ["conf", "conf"] == [one.target for one in both.files], "each kind has its directory"


def test_networks_are_joined_as_the_others_have_them(client: FakeClient) -> None:
    task = update(client, "--network-add", "name=shop_back,alias=w,alias=www")
    assert task.networks == (evolve(BACK, aliases=("w", "www")),)
    task = update(client, "--network-add", "name=lan,external", "--network-rm", "shop_back")
    assert task.networks == (NetworkUse(name="lan", external=True),)
    assert update(client, "--network-rm", "lan", "--network-add", "shop_back").networks == (BACK,)


def test_devices_preferences_and_what_is_one_number(client: FakeClient) -> None:
    task = update(
        client,
        *("--generic-resource-add", "gpu=2", "--generic-resource-add", "ssd=1"),
        *("--placement-pref-add", "spread=node.labels.zone"),
        *("--placement-pref-add", "spread=node.labels.Rack", "--replicas-max-per-node", "3"),
        *("--max-skew", "1"),
        *("--platform", "Linux/ARM64", "--limit-pids", "50", "--restart-window", "1m"),
        *("--max-unavailable", "25%", "--update-parallelism", "3", "--restart-delay", "10m"),
        *("--rollback-failure-action", "continue", "--args", "serve -v"),
    )
    spec = client.view.find_service("web").spec
    assert task.devices == (DeviceRequest(kind="gpu", count=2), DeviceRequest(kind="ssd", count=1))
    assert task.placement == Placement(
        spread_over=("node.labels.zone", "node.labels.Rack"), max_skew=1, max_replicas_per_node=3
    )
    assert (task.platform, task.limits) == ("linux/arm64", Resources(pids=50))
    assert task.restart == RestartPolicy(window_s=60.0, delay_s=600.0, max_delay_s=600.0)
    assert (spec.max_unavailable, spec.max_unavailable_percent) == (None, 25)
    assert (spec.update.parallelism, task.command) == (3, ("serve", "-v"))
    assert spec.rollback.failure_action is FailureAction.CONTINUE
    task = update(
        client,
        *("--generic-resource-rm", "ssd", "--generic-resource-add", "gpu=1", "--platform", ""),
        *("--placement-pref-rm", "spread=node.labels.zone", "--max-unavailable", "2"),
    )
    spec = client.view.find_service("web").spec
    assert (DeviceRequest(kind="gpu", count=1),) == task.devices
    assert (("node.labels.Rack",), None) == (task.placement.spread_over, task.platform)
    assert (spec.max_unavailable, spec.max_unavailable_percent) == (2, None)
    update(client, "--max-unavailable", "")
    spec = client.view.find_service("web").spec
    assert (spec.max_unavailable, spec.max_unavailable_percent) == (None, None)
    update(client, "--max-concurrent", "2", name="batch")
    assert client.view.find_service("batch").spec.max_concurrent == 2


def test_a_health_check_is_given_changed_and_taken_away(client: FakeClient) -> None:
    task = update(client, "--health-interval", "5s", "--health-cmd", "curl -f localhost || exit 1")
    test = ("CMD-SHELL", "curl -f localhost || exit 1")
    assert task.healthcheck == HealthCheck(test=test, interval_s=5.0)
    task = update(
        client,
        *("--health-interval", "0s", "--health-timeout", "2s", "--health-retries", "5"),
        *("--health-start-period", "1m", "--health-start-interval", "1s"),
    )
    changed = HealthCheck(
        test=test, timeout_s=2.0, retries=5, start_period_s=60.0, start_interval_s=1.0
    )
    assert task.healthcheck == changed
    task = update(client, "--no-healthcheck")
    assert (task.healthcheck, task.healthcheck_disabled) == (None, True)
    task = update(client, "--health-cmd", "true")
    assert task.healthcheck == HealthCheck(test=("CMD-SHELL", "true"))
    task = update(client, "--health-cmd", "")
    assert (task.healthcheck, task.healthcheck_disabled) == (None, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--publish-add x", "`x`"),
        ("--publish-add 8080:81", "8080/tcp is published already; take the other off"),
        ("--publish-add published=80", "needs target="),
        ("--publish-add target=80,mode=ingress", "`ingress` comes with a later release"),
        ("--publish-add target=80,host_ip=nowhere", "`nowhere` is no IP address"),
        ("--publish-rm 81", "it publishes no 81"),
        ("--publish-rm 8081:80", "it publishes no 8081:80"),
        ("--publish-rm 80/udp", "it publishes no 80/udp"),
        ("--mount-add type=npipe,target=/x", "type=npipe is none of bind, volume, tmpfs"),
        ("--mount-add target=x", "the target must be an absolute path, not `x`"),
        ("--mount-add source=a", "needs target="),
        ("--mount-add source=./a,target=/x", "a path of the host is type=bind"),
        ("--mount-add type=bind,source=a,target=/x", "an absolute path of the host"),
        ("--mount-add type=tmpfs,source=a,target=/x", "a tmpfs has no source"),
        ("--mount-add target=/x,tmpfs-size=1m", "tmpfs-size is not for type=volume"),
        ("--mount-add target=/x,colour=red", "there is no `colour`, only type, source"),
        ("--mount-add target=/x,target=/y", "says target twice"),
        ("--mount-add target=/x,readonly=maybe", "readonly=maybe is neither true nor false"),
        ("--mount-add type=tmpfs,target=/x,tmpfs-mode=9", "tmpfs-mode=9 is no permission bits"),
        ("--mount-add target=/x --mount-add target=/x/", "names /x twice"),
        ("--mount-rm /other", "it has no mount at /other; it has /data"),
        ("--config-add target=/x", "needs source="),
        ("--config-add a/b", "`a/b` is no name"),
        ("--config-add conf", "config conf is at /conf already; take it off with --config-rm conf"),
        ("--secret-add source=k,target=/conf", "config conf is at /conf already"),
        ("--config-add source=more,uid=me", "uid=me is no number from 0"),
        ("--config-add source=more,mode=0999", "mode=0999 is no permission bits"),
        ("--config-rm more", "it has no config more; it has conf"),
        ("--secret-rm conf", "it has no secret conf; it has none"),
        ("--network-rm shop_back", "it has no network shop_back; it has none"),
        ("--network-add alias=x", "needs name="),
        ("--generic-resource-add gpu", "`gpu` is not KIND=NUMBER"),
        ("--generic-resource-add gpu=0", "`gpu=0` is not KIND=NUMBER"),
        ("--generic-resource-rm gpu", "it has no device of kind gpu"),
        ("--placement-pref-add zone", "`zone` is not spread=node.labels.NAME"),
        ("--placement-pref-rm spread=node.labels.a", "it has no preference for node.labels.a"),
        ("--platform linux/arm/64/x", "is no platform"),
        ("--health-interval 5s", "it has no health check of its own; say its command too"),
        ("--health-cmd x --health-timeout 5", "is no duration"),
        ("--health-cmd x --no-healthcheck", "does not go with --health-cmd"),
        ("--max-unavailable 101%", "no share from 0% to 100%"),
        ("--max-concurrent 2", "it is for replicated jobs"),
        ("--max-skew 1", "it needs a preference, as --placement-pref-add"),
        ("--rollback-failure-action rollback", "must be pause or continue"),
        ("--rollback-delay 5", "--rollback-delay"),
    ],
)
def test_what_cannot_be_meant_is_said(
    client: FakeClient, capsys: Capture, arguments: str, message: str
) -> None:
    assert main(["service", "update", "web", *arguments.split()], client.connect) == 2
    said = capsys.readouterr().err
    assert message in said
    assert " hint: meshswarm" in said
    assert [] == client.proposed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--mount-add target=/x", "a process sees the host's files as they are"),
        ("--publish-add 8080:80", "a process opens its ports itself: write 80"),
        ("--network-add shop_back", "its tasks are in no network of their own"),
        ("--config-add source=conf,target=/etc/x", "write a mere name"),
    ],
)
def test_a_process_is_told_what_it_cannot_have(
    client: FakeClient, capsys: Capture, arguments: str, message: str
) -> None:
    assert main(["service", "update", "proc", *arguments.split()], client.connect) == 2
    assert message in capsys.readouterr().err


def test_what_does_not_exist_is_not_found(client: FakeClient, capsys: Capture) -> None:
    assert main(["service", "update", "web", "--secret-add", "nokey"], client.connect) == 5
    assert "meshswarm secret create nokey" in capsys.readouterr().err
    assert main(["service", "update", "web", "--network-add", "shop_bak"], client.connect) == 5
    assert capsys.readouterr().err.splitlines() == [
        "error: no service is in a network 'shop_bak'",
        "  - shop_back",
        " hint: deploy a stack that has it; or, for one that the engines have already, "
        "meshswarm service update web --network-add name=shop_bak,external",
    ]


def test_the_host_network_and_self_fencing_keep_their_rules(
    client: FakeClient, capsys: Capture
) -> None:
    host = evolve(WEB, name="host", task=TaskSpec(image="x", network_mode=NetworkMode.HOST))
    fenced = evolve(WEB, name="fenced", task=evolve(WEB.task, stop_after_s=10.0))
    client.view = then(client.view, PutService(spec=host), PutService(spec=fenced))
    assert main(["service", "update", "host", "--publish-add", "80"], client.connect) == 2
    assert "its network mode publishes no ports" in capsys.readouterr().err
    assert main(["service", "update", "fenced", "--order", "start-first"], client.connect) == 2
    assert "lets at most one task of a slot run" in capsys.readouterr().err
