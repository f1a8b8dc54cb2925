"""`x-meshswarm: {probes, lost_after, stop_after}`: what it means, and what is wrong with it."""

import pytest

from meshswarm.errors import Invalid
from meshswarm.model.probe import CommandCheck, HttpCheck, Probe, Probes, TcpCheck
from tests.compose.loading import in_service, loaded, service

PROBES = """\
x-meshswarm:
  probes:
    startup:
      command: test -e /started
      start_period: 1m
      start_interval: 500ms
      failure_threshold: 30
    readiness:
      http: {port: 8080, path: "/ready?deep=1", headers: {X-Probe: yes, X-N: 1}, status: 200-204}
      interval: 2s
      timeout: 500ms
      success_threshold: 2
      initial_delay: 1s
    liveness: {tcp: {port: 5432}}
"""


def test_each_probe_has_its_check_and_its_pace() -> None:
    assert service(PROBES).task.probes == Probes(
        startup=Probe(
            check=CommandCheck(argv=("/bin/sh", "-c", "test -e /started")),
            failure_threshold=30,
            start_period_s=60.0,
            start_interval_s=0.5,
        ),
        readiness=Probe(
            check=HttpCheck(
                port=8080,
                path="/ready?deep=1",
                headers={"X-Probe": "yes", "X-N": "1"},
                status_low=200,
                status_high=204,
            ),
            interval_s=2.0,
            timeout_s=0.5,
            success_threshold=2,
            initial_delay_s=1.0,
        ),
        liveness=Probe(check=TcpCheck(port=5432)),
    )


def test_without_them_a_service_has_none() -> None:
    assert not service("").task.probes
    assert (None, None) == (service("").task.lost_after_s, service("").task.stop_after_s)


def _faults(body: str) -> list[str]:
    with pytest.raises(Invalid) as refused:
        loaded(in_service(body))
    return [detail.partition("x-meshswarm.")[2] for detail in refused.value.details]


@pytest.mark.parametrize(
    ("probe", "fault"),
    [
        ("{}", "probes.liveness: needs exactly one of `http`, `tcp` and `command`"),
        (
            "{tcp: {port: 1}, command: x}",
            "probes.liveness: needs exactly one of `http`, `tcp` and `command`",
        ),
        ("{tcp: {}}", "probes.liveness.tcp: needs a `port`: the task's own, published or not"),
        ("{tcp: {port: 70000}}", "probes.liveness.tcp.port: must be from 1 to 65535, not 70000"),
        (
            "{http: {port: 1, path: health}}",
            "probes.liveness.http.path: `health` is no path; write /healthz, and %20 for a blank",
        ),
        (
            "{http: {port: 1, status: 204-200}}",
            "probes.liveness.http.status: `204-200` is no status; write 200, or 200-299",
        ),
        (
            '{http: {port: 1, headers: {"a b": c}}}',
            "probes.liveness.http.headers: `a b` is no name of a header",
        ),
        (
            '{http: {port: 1, headers: {a: "b\\r\\nc: d"}}}',
            "probes.liveness.http.headers: the value of `a` is more than one line of ASCII",
        ),
        ('{command: ""}', "probes.liveness.command: is empty"),
        (
            "{tcp: {port: 1}, failure_threshold: 0}",
            "probes.liveness.failure_threshold: must be from 1 to 1000000, not 0",
        ),
        (
            "{tcp: {port: 1}, retries: 3}",
            "probes.liveness.retries: unknown key",
        ),
    ],
)
def test_what_is_wrong_with_a_probe_is_told(probe: str, fault: str) -> None:
    assert [fault] == _faults(f"x-meshswarm: {{probes: {{liveness: {probe}}}}}")


def test_our_own_keys_are_listed_for_who_names_none_like_them() -> None:
    [fault] = _faults("x-meshswarm: {zebra: 1}")
    assert fault.startswith("zebra: unknown key; there are active_deadline, lost_after, ")
    assert "update_config" in fault


def test_how_long_silence_is_borne() -> None:
    task = service("x-meshswarm: {lost_after: 2m, stop_after: 30s}").task
    assert (120.0, 30.0) == (task.lost_after_s, task.stop_after_s)
    assert 30.0 == service("x-meshswarm: {stop_after: 30s}").task.stop_after_s


def test_nothing_is_replaced_while_its_agent_may_run_it() -> None:
    assert _faults("x-meshswarm: {lost_after: 20s, stop_after: 30s}") == [
        "stop_after: must not be longer than `lost_after` (20s): a task would be replaced while "
        "its agent still runs it"
    ]
    body = in_service("stop_grace_period: 20s\nx-meshswarm: {lost_after: 40s, stop_after: 30s}")
    assert loaded(body).warnings == (
        "compose.yml:5: services.a.x-meshswarm.stop_after: its agent needs 30s and up to 20s of "
        "`stop_grace_period`, so it is replaced later than `lost_after` (40s) says",
    )


def test_at_most_one_does_not_go_with_two_at_a_time() -> None:
    order = "deploy: {update_config: {order: start-first}}"
    [fault] = _faults(f"{order}\nx-meshswarm: {{stop_after: 30s}}")
    assert fault.startswith("stop_after: lets at most one task of a slot run")
    assert _faults("x-meshswarm: {stop_after: 4s}") == [
        "stop_after: must be 5s at least, or one lost message stops it"
    ]
