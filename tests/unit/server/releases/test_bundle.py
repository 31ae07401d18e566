"""The install bundle: the same bytes each time, every file signed for, and an installer that uses all of it."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import stat
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import tomli
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ct_ops_server.releases.artefact import Form
from ct_ops_server.releases.bundle import (
    BundleError,
    BundleParts,
    BundleToken,
    bundle_entries,
    date_of,
    signed,
)
from ct_ops_server.releases.manifest import Manifest, sign
from ct_ops_server.releases.packing import EARLIEST, Entry, Packing, pack, packing_of, unpack
from ct_ops_server.releases.release_key import public_pem
from install_host import BUILT_AT, SBOM, SHELLS, STEM, InstallHost, agent_archive

KEY = ec.generate_private_key(ec.SECP256R1())
FOLDER = "ct-ops-agent-linux-amd64"
TOKEN = BundleToken("tok_secret", max_uses=1, expires="2026-01-01 00:00 UTC")
PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30)


@pytest.fixture
def host(tmp_path: Path) -> InstallHost:
    (tmp_path / "host").mkdir()
    return InstallHost(tmp_path / "host")


def parts_of(host: InstallHost, *, kind: str = "gz", **changes: object) -> BundleParts:
    archive = agent_archive(host.agent, kind=kind)
    manifest = Manifest(
        file_name=f"{STEM}.tar.{kind}",
        system="linux",
        architecture="amd64",
        form=Form(f"tar.{kind}"),
        version="0.1.0",
        length=len(archive),
        sha256=hashlib.sha256(archive).hexdigest(),
        glibc_floor="2.30",
    )
    parts = BundleParts(
        manifest=manifest,
        archive=archive,
        address="ops.example.com:9443",
        ca_pem="the authority\n",
        token=TOKEN,
        manifest_signature=sign(manifest, KEY),
        release_key_pem=public_pem(KEY.public_key()).decode(),
    )
    return replace(parts, **changes)  # type: ignore[arg-type]


def unpacked(entries: list[Entry], folder: Path) -> Path:
    """Write a bundle's files down, and return their folder."""
    for entry in entries:
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.content)
        path.chmod(entry.mode)
    return folder / FOLDER


def names(entries: list[Entry]) -> dict[str, int]:
    return {entry.name.removeprefix(f"{FOLDER}/"): entry.mode for entry in entries}


# ---- the archive


@pytest.mark.parametrize("packing", list(Packing))
def test_the_same_contents_are_the_same_bytes(host: InstallHost, packing: Packing) -> None:
    """Whenever it is built; dated by the agent's build."""
    parts = parts_of(host)
    first, second = (
        pack(signed(bundle_entries(parts), KEY), packing, epoch=date_of(parts.archive)) for _ in range(2)
    )

    assert first == second
    assert BUILT_AT == date_of(parts.archive)


def test_a_zip_keeps_modes_and_compresses_nothing(host: InstallHost) -> None:
    """What a compressor makes of the rest depends on its version."""
    content = pack(bundle_entries(parts_of(host)), Packing.ZIP, epoch=BUILT_AT)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = {info.filename.rpartition("/")[2]: info for info in archive.infolist()}

    assert {zipfile.ZIP_STORED} == {info.compress_type for info in infos.values()}
    assert (0o100600, 0o100755) == (
        infos["enrolment-token"].external_attr >> 16,
        infos["install.sh"].external_attr >> 16,
    )


def test_a_tar_gz_is_read_by_everybody(host: InstallHost, tmp_path: Path) -> None:
    """By gzip and GNU tar, with modes, root's, dated."""
    entries = bundle_entries(parts_of(host))
    content = pack(entries, Packing.TAR_GZ, epoch=BUILT_AT)
    (tmp_path / "b.tar.gz").write_bytes(content)
    subprocess.run(["gzip", "-t", str(tmp_path / "b.tar.gz")], check=True)
    subprocess.run(["tar", "-xzf", str(tmp_path / "b.tar.gz"), "-C", str(tmp_path)], check=True)
    token = (tmp_path / FOLDER / "enrolment-token").stat()

    assert (0o600, BUILT_AT) == (stat.S_IMODE(token.st_mode), token.st_mtime)
    assert entries == unpack(content)


@settings(max_examples=30)
@given(size=st.integers(0, 200_000), packing=st.sampled_from(Packing))
@example(size=65535 * 2 - 512 * 3, packing=Packing.TAR_GZ)
def test_an_archive_gives_back_what_was_packed(size: int, packing: Packing) -> None:
    """Of any size, also where blocks meet."""
    entries = [Entry("a/b", 0o600, bytes(size)), Entry("a/c", 0o755, b"x" * size)]
    content = pack(entries, packing, epoch=0)

    assert (entries, packing) == (unpack(content), packing_of(content))
    if packing is Packing.TAR_GZ:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as tar:
            assert [EARLIEST] * 2 == [member.mtime for member in tar]


# ---- what is in it


def test_everything_a_host_needs_is_in_it_and_only_the_token_is_secret(host: InstallHost) -> None:
    """The layout that the documentation shows."""
    entries = signed(bundle_entries(parts_of(host, web_certificate_pem="the proxy's\n")), KEY)

    assert {
        f"{STEM}.tar.gz": 0o644,
        f"{STEM}.tar.gz.manifest": 0o644,
        f"{STEM}.tar.gz.manifest.sig": 0o644,
        "README.md": 0o644,
        "SHA256SUMS": 0o644,
        "SHA256SUMS.sig": 0o644,
        "agent.toml": 0o644,
        "enrolment-token": 0o600,
        "install.sh": 0o755,
        "release-key.pub": 0o644,
        "sbom.cdx.json": 0o644,
        "server-ca.crt": 0o644,
        "server-cert.pem": 0o644,
    } == names(entries)
    holders = [entry.name for entry in entries if b"tok_secret" in entry.content]
    assert [f"{FOLDER}/enrolment-token"] == holders
    assert SBOM == next(entry.content for entry in entries if entry.name.endswith("sbom.cdx.json"))


def test_the_sums_are_over_every_file(host: InstallHost) -> None:
    """Of an existing bundle only the program's was there."""
    entries = bundle_entries(parts_of(host))
    listed = {line.split("  ")[1] for line in entries[-1].content.decode().splitlines()}

    assert set(names(entries)) - {"SHA256SUMS"} == listed


@settings(max_examples=60)
@given(tags=st.dictionaries(PRINTABLE.filter(lambda key: ":" not in key), PRINTABLE, max_size=3))
@example(tags={"a'b": '"; touch owned; #', "$(id)": "`id`", "ключ": "значение 🦊\\n"})
def test_attack_whatever_a_tag_holds_the_configuration_says_just_that(tags: dict[str, str]) -> None:
    """An existing bundle pastes it into TOML and into a shell."""
    parts = parts_of(InstallHost(Path()), tags=tuple(tags.items()))
    entries = bundle_entries(parts)
    text = next(entry.content for entry in entries if entry.name.endswith("agent.toml")).decode()

    assert {
        "ingest": {"address": "ops.example.com:9443"},
        "agent": {"tags": [f"{key}:{value}" for key, value in tags.items()]},
    } == tomli.loads(text)


@pytest.mark.parametrize("tag", [("a:b", "c"), ("", "x"), ("a", "b\nc"), ("a", "\x7f"), ("a\0", "")])
def test_a_tag_that_cannot_be_meant_is_refused(host: InstallHost, tag: tuple[str, str]) -> None:
    """Not written down as something else."""
    with pytest.raises(BundleError, match="tag"):
        bundle_entries(parts_of(host, tags=(tag,)))


@pytest.mark.parametrize(
    ("token", "said", "not_said"),
    [
        (TOKEN, "single-use", "any number"),
        (BundleToken("t", max_uses=None), "any number of hosts, without end", "single-use"),
        (BundleToken("t", max_uses=5), "5 hosts in all", "single-use"),
        (None, "holds no enrolment token", "single-use"),
    ],
)
def test_the_readme_says_what_the_token_is_good_for(
    host: InstallHost, token: BundleToken | None, said: str, not_said: str
) -> None:
    """An existing bundle calls every token single-use."""
    entries = bundle_entries(parts_of(host, token=token))
    readme = next(entry.content for entry in entries if entry.name.endswith("README.md")).decode()

    assert said in readme
    assert not_said not in readme
    assert all(f"| `{name}` |" in readme for name in names(entries))


def test_attack_an_archive_that_is_not_what_its_manifest_says_gets_into_no_bundle(host: InstallHost) -> None:
    """Replaced between a look at the shelf and the next."""
    with pytest.raises(BundleError, match="not what its manifest says"):
        bundle_entries(parts_of(host, archive=b"other"))


def test_only_the_release_key_signs_a_bundle(host: InstallHost) -> None:
    """A host compares with the one in the bundle."""
    with pytest.raises(BundleError, match="not the release key"):
        signed(bundle_entries(parts_of(host)), ec.generate_private_key(ec.SECP256R1()))


# ---- its installer


@pytest.fixture
def folder(host: InstallHost, tmp_path: Path) -> Path:
    return unpacked(signed(bundle_entries(parts_of(host)), KEY), tmp_path / "it's $(here)")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_the_installer_uses_configuration_authority_and_token_of_its_folder(
    host: InstallHost, tmp_path: Path, shell: str, kind: str
) -> None:
    """An existing bundle's installer ignores the first two and shows the third to every user of the host."""
    there = unpacked(signed(bundle_entries(parts_of(host, kind=kind)), KEY), tmp_path / "it's $(here)")
    done = host.run_file(there / "install.sh", "--tag", "a:'$(x)'", shell=shell)

    assert 0 == done.returncode, done.stderr
    (call,) = host.calls
    assert [
        *("install", "--config", str(there / "agent.toml")),
        *("--ca-cert-file", str(there / "server-ca.crt")),
        *("--token-file", str(there / "enrolment-token")),
        *("--tag", "a:'$(x)'"),
    ] == call["words"]
    files = call["files"]
    assert isinstance(files, dict)
    assert (["tok_secret\n", "the authority\n"]) == [
        files[str(there / name)] for name in ("enrolment-token", "server-ca.crt")
    ]
    assert [] == host.left_behind


def test_verify_verifies_and_installs_nothing(host: InstallHost, folder: Path) -> None:
    """As anybody, not only as root; and it says which key signed."""
    host.uid = 1000
    done = host.run_file(folder / "install.sh", "--verify")
    digest = hashlib.sha256(
        subprocess.run(
            ["openssl", "pkey", "-pubin", "-in", str(folder / "release-key.pub"), "-outform", "DER"],
            capture_output=True,
            check=True,
        ).stdout
    ).hexdigest()

    assert (0, []) == (done.returncode, host.calls)
    assert digest in done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "agent.toml",
        "server-ca.crt",
        "install.sh",
        "enrolment-token",
        f"{STEM}.tar.gz",
        "README.md",
        "sbom.cdx.json",
    ],
)
@pytest.mark.parametrize("word", ["--verify", "--checksum-only"])
def test_attack_a_file_that_was_changed_is_found_whichever_it_is(
    host: InstallHost, folder: Path, name: str, word: str
) -> None:
    """Of an existing bundle only the program was looked at."""
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n# changed\n")
    done = host.run_file(folder / "install.sh", word)

    assert (65, []) == (done.returncode, host.calls)
    assert "is not what it was" in done.stderr


def test_attack_changed_sums_are_found_by_their_signature(host: InstallHost, folder: Path) -> None:
    """A checksum in the same archive protects from accidents only."""
    (folder / "agent.toml").write_text("[ingest]\naddress = 'evil.example:1'\n")
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("agent.toml", "install.sh")
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
    done = host.run_file(folder / "install.sh")

    assert (65, []) == (done.returncode, host.calls)
    assert "not signed by" in done.stderr


def test_attack_a_bundle_with_a_key_of_its_own_is_found_by_the_known_key(
    host: InstallHost, tmp_path: Path
) -> None:
    """Whoever makes a whole bundle anew signs it with another key: the operator names the one they know."""
    other = ec.generate_private_key(ec.SECP256R1())
    parts = parts_of(host, release_key_pem=public_pem(other.public_key()).decode())
    folder = unpacked(signed(bundle_entries(parts), other), tmp_path)
    known = tmp_path / "known.pub"
    known.write_bytes(public_pem(KEY.public_key()))
    done = host.run_file(folder / "install.sh", "--release-key", str(known))

    assert (65, []) == (done.returncode, host.calls)


def test_without_openssl_only_who_says_so_goes_without_signature(host: InstallHost, folder: Path) -> None:
    """It refuses by default, and checks the sums in any case."""
    host.missing = {"openssl"}
    refused = host.run_file(folder / "install.sh")
    done = host.run_file(folder / "install.sh", "--checksum-only")

    assert (65, 0, 1) == (refused.returncode, done.returncode, len(host.calls))
    assert "--checksum-only" in refused.stderr


def test_a_bundle_that_is_not_signed_says_so(host: InstallHost, tmp_path: Path) -> None:
    """And is installed by who accepts that."""
    folder = unpacked(bundle_entries(parts_of(host, release_key_pem="", token=None)), tmp_path)
    refused = host.run_file(folder / "install.sh")
    done = host.run_file(
        folder / "install.sh", "--checksum-only", environment={"CT_OPS_ENROLMENT_TOKEN": "tok_env"}
    )

    assert (65, 0) == (refused.returncode, done.returncode)
    assert ("tok_env", False) == (host.calls[0]["token"], "--token-file" in str(host.calls[0]["words"]))


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        ({"uid": 1000}, 77, "become root"),
        ({"machine": "aarch64"}, 1, "this bundle is for linux/amd64, and this host is linux/arm64"),
        ({"libc": "glibc 2.17"}, 1, "needs glibc 2.30"),
        ({"libc": "", "musl": True}, 1, "musl"),
        ({"free_kib": 1}, 1, "are needed"),
        ({"missing": {"gzip"}}, 1, "gzip is needed"),
        ({"missing": {"sha256sum"}}, 1, "sha256sum is needed"),
        ({"agent_exits": 69}, 69, ""),
    ],
)
def test_a_host_that_cannot_run_the_agent_is_told_so(
    tmp_path: Path, host: InstallHost, change: dict[str, object], code: int, sentence: str
) -> None:
    """The same checks as in the one-line install; the agent's own exit code comes through."""
    for name, value in change.items():
        setattr(host, name, value)
    folder = unpacked(signed(bundle_entries(parts_of(host)), KEY), tmp_path)
    done = host.run_file(folder / "install.sh")

    assert code == done.returncode
    assert sentence in done.stderr
    assert [] == host.left_behind


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed on this host")
def test_shellcheck_finds_nothing_in_the_installer(folder: Path) -> None:
    """As it is in the bundle, in the POSIX dialect."""
    done = subprocess.run(
        ["shellcheck", "--shell=sh", str(folder / "install.sh")], capture_output=True, text=True, check=False
    )

    assert "" == done.stdout
