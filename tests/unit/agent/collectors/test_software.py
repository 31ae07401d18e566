"""Software: the databases of four package managers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_agent.collector import CollectorError, Settings
from ct_ops_agent.collector_testing import collected, missing_parts
from ct_ops_agent.collectors.software import Software, find_packages, read_packages
from ct_ops_agent.collectors.software.databases import parse_desc, parse_paragraphs
from ct_ops_agent.collectors.software.model import Package, Packages
from ct_ops_agent.collectors.software.rpm import parse_rpm, read_rpm

DPKG = """\
Package: adduser
Status: install ok installed
Priority: important
Maintainer: Debian Adduser Developers <adduser@packages.debian.org>
Architecture: all
Version: 3.134
Description: add and remove users and groups
 This package includes the 'adduser' and 'deluser' commands: they
 make it easy.

Package: left-its-configuration
Status: deinstall ok config-files
Version: 1.0

Package: libc6
Status: hold ok installed
Architecture: amd64
Version: 2.36-9+deb12u10

Status: install ok installed
"""
APK = """\
C:Q1abc=
P:musl
V:1.2.5-r0
A:x86_64
T:the musl c library
m:Natanael Copa <ncopa@alpinelinux.org>
F:lib

P:busybox
V:1.36.1-r29
A:x86_64
"""
DESC = """\
%NAME%
bash

%VERSION%
5.2.037-1

%ARCH%
x86_64

%PACKAGER%
Levente Polyak <anthraxx@archlinux.org>

%INSTALLDATE%
1700000000

%DEPENDS%
glibc
readline
"""
RPM = (
    "bash\t5.1.8-9.el9\tx86_64\tRed Hat, Inc.\t1700000000\n"
    "shadow-utils\t2:4.9-8.el9\tx86_64\tRed Hat, Inc.\t1700000001\n"
    "gpg-pubkey\tfd431d51-4ae0493b\t(none)\t(none)\t1700000002\n"
    "odd line\n"
    "mine\t1-1\tnoarch\t(none)\tunknown\n"
)


def write(root: Path, path: str, text: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_dpkg_tells_what_is_installed_and_not_what_was(tmp_path: Path) -> None:
    """Held packages are installed too; the age of a file list says when."""
    write(tmp_path, "var/lib/dpkg/status", DPKG)
    listed = write(tmp_path, "var/lib/dpkg/info/libc6:amd64.list", "")
    os.utime(listed, (1_700_000_000, 1_700_000_000))
    found = read_packages(tmp_path)

    maintainer = "Debian Adduser Developers <adduser@packages.debian.org>"
    assert (
        Packages(
            "dpkg",
            [
                Package("adduser", "3.134", "all", maintainer),
                Package("libc6", "2.36-9+deb12u10", "amd64", "", 1_700_000_000),
            ],
        )
        == found
    )


def test_images_without_dpkg_itself_keep_a_file_for_each_package(tmp_path: Path) -> None:
    """Without a status: what is listed is there."""
    write(tmp_path, "var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12\nArchitecture: amd64\n")
    write(tmp_path, "var/lib/dpkg/status.d/base.md5sums", "abc  /etc/os-release\n")

    assert [Package("base-files", "12", "amd64")] == read_packages(tmp_path).packages


def test_apk_is_read(tmp_path: Path) -> None:
    """Alpine."""
    write(tmp_path, "lib/apk/db/installed", APK)
    found = read_packages(tmp_path)

    assert ("apk", ["musl", "busybox"]) == (found.source, [one.name for one in found.packages])
    assert Package("musl", "1.2.5-r0", "x86_64", "Natanael Copa <ncopa@alpinelinux.org>") == found.packages[0]


def test_pacman_is_read(tmp_path: Path) -> None:
    """Arch."""
    write(tmp_path, "var/lib/pacman/local/bash-5.2.037-1/desc", DESC)
    write(tmp_path, "var/lib/pacman/local/ALPM_DB_VERSION", "9\n")

    packager = "Levente Polyak <anthraxx@archlinux.org>"
    assert Packages(
        "pacman", [Package("bash", "5.2.037-1", "x86_64", packager, 1_700_000_000)]
    ) == read_packages(tmp_path)


def test_rpm_is_asked_and_its_keys_are_no_packages(tmp_path: Path) -> None:
    """An epoch belongs to the version."""
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    found = read_rpm(tmp_path, run=lambda _: RPM)

    assert found is not None
    assert [
        Package("bash", "5.1.8-9.el9", "x86_64", "Red Hat, Inc.", 1_700_000_000),
        Package("shadow-utils", "2:4.9-8.el9", "x86_64", "Red Hat, Inc.", 1_700_000_001),
        Package("mine", "1-1", "noarch"),
    ] == found.packages


def test_a_host_of_rpm_without_its_program_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that was stripped."""
    (tmp_path / "usr/lib/sysimage/rpm").mkdir(parents=True)

    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("subprocess.run", absent)
    with pytest.raises(CollectorError, match="no program rpm to read it"):
        read_packages(tmp_path)


def test_a_host_without_a_package_manager_is_no_broken_one(tmp_path: Path) -> None:
    """The collector goes without; the task has to fail, because it was asked for packages."""
    collector = Software(Settings(), read=lambda: find_packages(tmp_path))

    assert {
        "packages": "this host has none of the package managers dpkg, rpm, pacman and apk"
    } == missing_parts(collector)
    with pytest.raises(CollectorError, match="none of the package managers"):
        read_packages(tmp_path)


def test_the_collector_counts() -> None:
    """By source."""
    collector = Software(Settings(), read=lambda: Packages("dpkg", [Package("a", "1"), Package("b", "1")]))

    assert {'software.packages{source="dpkg"}': 2.0} == collected(collector)


@given(st.text(max_size=400))
def test_any_text_may_be_parsed(text: str) -> None:
    """Databases that were cut off, or are none."""
    list(parse_paragraphs(text))
    parse_desc(text)
    parse_rpm(text)


def test_lines_that_go_on_do_not_begin_a_field() -> None:
    """A description may hold a colon."""
    (fields,) = parse_paragraphs("Package: a\nDescription: x\n y: z\n\ty2: z\n")

    assert {"Package": "a", "Description": "x"} == fields
