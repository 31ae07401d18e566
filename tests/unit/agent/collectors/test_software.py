"""Software: the databases of four package managers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_agent.collector import CollectorError, Settings
from ct_ops_agent.collector_testing import collected, missing_parts
from ct_ops_agent.collectors.software import Software, find_packages, read_packages
from ct_ops_agent.collectors.software.databases import (
    parse_desc,
    parse_paragraphs,
    read_apk,
    read_dpkg,
    read_pacman,
)
from ct_ops_agent.collectors.software.lines import Lines
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
    list(parse_paragraphs(text.split("\n")))
    parse_desc(text.split("\n"))
    parse_rpm(text)


def test_lines_that_go_on_do_not_begin_a_field() -> None:
    """A description may hold a colon."""
    (fields,) = parse_paragraphs(["Package: a", "Description: x", " y: z", "\ty2: z"])

    assert {"Package": "a", "Description": "x"} == fields


@pytest.mark.parametrize(
    "state",
    ["installed", "triggers-pending", "triggers-awaited", "half-configured", "unpacked"],
)
def test_packages_of_dpkg_count_while_their_files_are_on_the_host(state: str, tmp_path: Path) -> None:
    """An upgrade that waits for a trigger has not removed anything."""
    write(tmp_path, "var/lib/dpkg/status", f"Package: a\nStatus: install ok {state}\nVersion: 1\n")

    assert [Package("a", "1")] == read_packages(tmp_path).packages


@pytest.mark.parametrize(
    "status",
    ["install reinstreq half-installed", "deinstall ok config-files", "unknown ok not-installed", ""],
)
def test_packages_of_dpkg_whose_files_may_not_be_there_do_not_count(status: str, tmp_path: Path) -> None:
    """Half-installed: unpacking broke off, and dpkg itself does not know."""
    write(tmp_path, "var/lib/dpkg/status", f"Package: a\nStatus: {status}\nVersion: 1\n")

    assert [] == read_packages(tmp_path).packages


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\r"])
def test_attack_a_description_with_a_mark_that_unicode_calls_a_lines_end_makes_no_field(
    mark: str, tmp_path: Path
) -> None:
    """Whoever packs a package does not choose another one's version."""
    forged = f"{mark}Package: openssl{mark}Version: 9{mark}"
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_bytes(
        f"Maintainer: x{forged}{mark}\nPackage: a\nStatus: install ok installed\nVersion: 1\n".encode()
    )
    (package,) = read_packages(tmp_path).packages

    assert ("a", "1") == (package.name, package.version)
    assert ["a"] == [one.name for one in parse_rpm(f"a\t1\tx\t{forged}\t5\n")]
    assert {"NAME": f"a{mark}%NAME%{mark}b"} == parse_desc(["%NAME%", f"a{mark}%NAME%{mark}b"])


def test_databases_with_carriage_returns_are_read() -> None:
    """They came from a share."""
    assert {"NAME": "a"} == parse_desc(["%NAME%\r", "a\r"])
    assert [{"P": "a"}, {"P": "b"}] == list(parse_paragraphs(["P:a\r", "\r", "P:b\r"]))


@pytest.mark.parametrize(
    ("read", "path"),
    [
        (read_dpkg, "var/lib/dpkg/status"),
        (read_dpkg, "var/lib/dpkg/status.d/a"),
        (read_apk, "lib/apk/db/installed"),
        (read_pacman, "var/lib/pacman/local/a-1/desc"),
    ],
)
def test_attack_a_database_without_an_end_is_not_read_to_it(
    read: Callable[[Path, Lines], Packages | None], path: str, tmp_path: Path
) -> None:
    """64 MiB, in a sentence that says whose it is."""
    write(tmp_path, path, "")
    os.truncate(tmp_path / path, 64 * 1024 * 1024 + 1)
    with pytest.raises(CollectorError, match="has more than 64 MiB of packages"):
        read(tmp_path, Lines("it"))


def test_attack_many_small_files_are_bounded_together(tmp_path: Path) -> None:
    """A folder for each package."""
    for number in range(5):
        write(tmp_path, f"var/lib/pacman/local/{number}/desc", DESC)
    with pytest.raises(CollectorError, match="pacman has more than 0 MiB"):
        read_pacman(tmp_path, Lines("pacman", most_bytes=4 * len(DESC)))


def test_of_a_line_without_an_end_the_beginning_counts(tmp_path: Path) -> None:
    """What follows it is no line of its own, and the next one is."""
    file = write(tmp_path, "file", "P:" + "P:x" * 100_000 + "\nV:1\n")
    first, second = Lines("apk").of(file)

    assert (65_536, "V:1") == (len(first), second)


def test_a_database_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    """A folder stands in for one."""
    (tmp_path / "lib/apk/db/installed").mkdir(parents=True)
    with pytest.raises(CollectorError, match="cannot be read: Is a directory"):
        read_packages(tmp_path)
