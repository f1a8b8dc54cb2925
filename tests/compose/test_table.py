"""The attribute table itself: it is the only list of attributes, so it must be whole."""

import pytest

from meshswarm.compose.attribute import Attribute, Support
from meshswarm.compose.table import TABLE

ROWS = tuple(TABLE.values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)
def test_a_row_says_what_its_support_needs(row: Attribute) -> None:
    is_applied = row.support is Support.APPLIED
    assert is_applied == (row.shape is not None)
    assert is_applied == bool(row.summary)
    assert is_applied != bool(row.hint)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)
def test_what_is_above_an_applied_attribute_is_applied(row: Attribute) -> None:
    if row.support is not Support.APPLIED:
        return
    above = row.path.rpartition(".")[0].removesuffix(".*")
    while above:
        assert TABLE[above].support is Support.APPLIED
        above = above.rpartition(".")[0].removesuffix(".*")


def test_what_compose_knows_is_in_the_table() -> None:
    # The attributes of a service in the Compose specification, October 2026.
    known = """annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command
        configs container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period
        cpu_rt_runtime cpu_shares cpus cpuset credential_spec depends_on deploy develop
        device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint env_file
        environment expose extends external_links extra_hosts gpus group_add healthcheck hostname
        image init ipc isolation label_file labels links logging mac_address mem_limit
        mem_reservation mem_swappiness memswap_limit models network_mode networks oom_kill_disable
        oom_score_adj pid pids_limit platform ports post_start pre_start pre_stop privileged
        profiles provider pull_policy pull_refresh_after read_only restart runtime scale secrets
        security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs
        tty ulimits umask use_api_socket user userns_mode uts volumes volumes_from working_dir"""
    assert [] == [key for key in known.split() if f"services.*.{key}" not in TABLE]


def test_every_row_has_its_own_path() -> None:
    assert all(path == row.path for path, row in TABLE.items())
