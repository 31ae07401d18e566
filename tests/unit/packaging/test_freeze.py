"""Freezing: the same bytes for the same inputs, wherever the build happens."""

from __future__ import annotations

from pathlib import Path

from freeze import forget_the_build


def test_nothing_of_the_build_hosts_folders_travels_in_our_metadata(tmp_path: Path) -> None:
    """RECORD has sums of scripts that name the environment's folder, direct_url.json names the tree's."""
    metadata = tmp_path / "lib/python3.11/site-packages/ct_ops-1.0.dist-info"
    metadata.mkdir(parents=True)
    for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "METADATA", "entry_points.txt"):
        (metadata / name).touch()
    forget_the_build(tmp_path)

    assert {file.name for file in metadata.iterdir()} == {"METADATA", "entry_points.txt"}
