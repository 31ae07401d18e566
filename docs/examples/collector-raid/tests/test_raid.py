"""The collector held to what it says of itself, without a machine that has RAID."""

from __future__ import annotations

from pathlib import Path

from ct_ops_collector_raid import Raid, RaidSettings

from ct_ops_agent.collector_testing import collected, missing_parts

MDSTAT = """\
Personalities : [raid1] [raid6] [raid5] [raid4]
md0 : active raid1 sdb1[1] sda1[0]
      976630464 blocks super 1.2 [2/1] [U_]

unused devices: <none>
"""


def test_an_array_that_lost_a_disk_says_so(tmp_path: Path) -> None:
    """One of two works."""
    (tmp_path / "mdstat").write_text(MDSTAT)
    samples = collected(Raid(RaidSettings(mdstat=str(tmp_path / "mdstat"))))

    assert samples == {'raid.disks_wanted{array="md0"}': 2.0, 'raid.disks_working{array="md0"}': 1.0}


def test_a_host_without_raid_is_no_error(tmp_path: Path) -> None:
    """It is said, once."""
    assert missing_parts(Raid(RaidSettings(mdstat=str(tmp_path / "none")))) == {
        "arrays": "this kernel has no software RAID"
    }
