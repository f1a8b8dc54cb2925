"""Devices: what a node's settings say it has, and what a task is told of its own."""

import pytest

from meshswarm.agent.devices import engine_requests, offers_of, variables_of
from meshswarm.model.resources import DeviceGrant, DeviceOffer, DeviceRequest


def test_ids_name_devices_and_numbers_count_them() -> None:
    assert offers_of(["ssd=3", "gpu=GPU-b", "gpu=GPU-a"]) == (
        DeviceOffer(kind="gpu", ids=("GPU-b", "GPU-a")),
        DeviceOffer(kind="ssd", count=3),
    )
    assert offers_of([]) == ()


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["gpu"], "write KIND=ID or KIND=NUMBER, not 'gpu'"),
        (["gpu=a b"], "write KIND=ID or KIND=NUMBER, not 'gpu=a b'"),
        (["gpu=a", "gpu=a"], "names 'gpu=a' twice"),
        (["ssd=1", "ssd=2"], "names 'ssd=2' twice"),
        (["gpu=a", "gpu=2"], "counts 'gpu', and names devices of that kind: only one can hold"),
    ],
)
def test_what_is_no_device(entries: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        offers_of(entries)
    assert str(error.value) == said


def test_a_task_is_told_of_its_devices_by_variables() -> None:
    grants = (
        DeviceGrant(kind="NVIDIA-gpu", ids=("a", "b")),
        DeviceGrant(kind="ssd", count=2),
        DeviceGrant(kind="NVIDIA-gpu", ids=("c",)),
    )
    assert variables_of(grants) == {
        "DOCKER_RESOURCE_NVIDIA_GPU": "a,b,c",
        "DOCKER_RESOURCE_SSD": "2",
    }


def test_an_engine_is_asked_for_the_granted_devices_that_have_capabilities() -> None:
    requests = (
        DeviceRequest(kind="ssd", count=1),
        DeviceRequest(kind="gpu", count=1, driver="nvidia", capabilities=("gpu",)),
    )
    grants = (DeviceGrant(kind="ssd", count=1), DeviceGrant(kind="gpu", ids=("GPU-1",)))
    assert engine_requests(requests, grants) == [
        {
            "Driver": "nvidia",
            "Count": 0,
            "DeviceIDs": ["GPU-1"],
            "Capabilities": [["gpu"]],
            "Options": {},
        }
    ]
