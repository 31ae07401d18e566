"""The one-line install: what its script refuses, what it hands to the agent, what it leaves behind."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ct_ops_server.config.addresses import parse_address
from ct_ops_server.releases.install_script import (
    AgentAddressError,
    InstallSource,
    agent_address,
    install_offer,
    install_script,
    one_line,
    public_key_pin,
)
from ct_ops_server.releases.manifest import sign
from ct_ops_server.releases.release_key import public_pem
from ct_ops_server.releases.shelf import Shelf
from ct_ops_server.releases.shell_quoting import UnquotableError, quoted
from ct_ops_server.releases.templates import TemplateError, filled
from install_host import SHELLS, STEM, InstallHost, agent_archive

SOURCE = InstallSource("https://ops.example.com:9443", public_key_pin(b"key"), ("ops.example.com:9443",))
TOKEN = {"CT_OPS_ENROLMENT_TOKEN": "tok_abc.def"}
KEY = ec.generate_private_key(ec.SECP256R1())

HOSTILE = [
    "$(touch owned)",
    "`touch owned`",
    "';touch owned;'",
    '";touch owned;"',
    "\\'; touch owned #",
    "a\ntouch owned\n",
    "\r\n",
    "é ü 漢字 🦊",
    "\u0081\u0088",
    "$HOME ~ * ? [a] {a,b} !! %s \\n",
    "",
    "-n",
    "@BASE_URL@",
]
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@pytest.fixture
def host(tmp_path: Path) -> InstallHost:
    return InstallHost(tmp_path / "host")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()


@dataclass
class Stock:
    """A shelf with one agent, and the script that a server makes of it."""

    folder: Path
    archive: Path
    shelf: Shelf

    def script(
        self, *, source: InstallSource = SOURCE, skip_verify: bool = False, address: str | None = None
    ) -> str:
        return install_script(
            source,
            self.shelf.everything(),
            release_key=public_pem(KEY.public_key()).decode(),
            address=address,
            skip_verify=skip_verify,
        )


def stocked(
    tmp_path: Path, host: InstallHost, *, kind: str = "gz", floor: str = "2.30", program: str | None = "agent"
) -> Stock:
    archive = tmp_path / f"{STEM}.tar.{kind}"
    archive.write_bytes(agent_archive(host.agent if program else None, kind=kind))
    shelf = Shelf(tmp_path / "shelf")
    manifest = shelf.describe(archive, glibc_floor=floor)
    shelf.add(archive, manifest, sign(manifest, KEY))
    return Stock(tmp_path, archive, shelf)


# ---- quoting


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=40)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
@example(texts=HOSTILE)
def test_attack_whatever_a_text_holds_a_shell_sees_that_text_and_runs_nothing(
    tmp_path_factory: pytest.TempPathFactory, shell: str, texts: list[str]
) -> None:
    """Quotes, substitutions, newlines, control characters, other alphabets: in dash and in bash."""
    folder = tmp_path_factory.getbasetemp() / "quoting"
    folder.mkdir(exist_ok=True)
    script = f"set -- {' '.join(map(quoted, texts))}\nprintf '%s\\0' \"$@\""
    done = subprocess.run([shell], input=script.encode(), cwd=folder, capture_output=True, check=True)

    assert texts == done.stdout.decode().split("\0")[:-1]
    assert [] == list(folder.iterdir())


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_no_shell_can_hold_is_refused(text: str) -> None:
    """Rather than cut off."""
    with pytest.raises(UnquotableError):
        quoted(text)


def test_what_a_value_holds_is_never_taken_for_a_place() -> None:
    """All places are filled at once."""
    assert "@B@ x" == filled("@A@ @B@", {"A": "@B@", "B": "x"})


@pytest.mark.parametrize("values", [{}, {"A": "1", "B": "2"}])
def test_a_template_and_its_values_fit_or_nothing_is_made(values: dict[str, str]) -> None:
    """A place that stays open would be run as it stands."""
    with pytest.raises(TemplateError):
        filled("@A@", values)


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=40)
@given(token=TEXTS, base=TEXTS)
@example(token="';touch owned;'", base="https://$(touch owned)/'")
def test_attack_the_one_line_hands_over_exactly_its_url_and_its_token(
    tmp_path_factory: pytest.TempPathFactory, shell: str, token: str, base: str
) -> None:
    """Also where an imported token or a configured URL holds whatever it likes."""
    folder = tmp_path_factory.getbasetemp() / "line"
    folder.mkdir(exist_ok=True)
    line = one_line(replace(SOURCE, base_url=base), token)
    stub = "curl() { for last; do :; done; printf '%s\\0' \"$last\" >&2; }; sh() { printf '%s' \"$CT_OPS_ENROLMENT_TOKEN\"; }\n"
    done = subprocess.run([shell], input=(stub + line).encode(), cwd=folder, capture_output=True, check=True)

    assert (base + "/api/agent/install\0", token) == (done.stderr.decode(), done.stdout.decode())
    assert [] == list(folder.iterdir())


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("text", [text for text in HOSTILE if text])
def test_attack_hostile_values_reach_the_agent_intact_through_the_whole_script(
    tmp_path: Path, host: InstallHost, shell: str, text: str
) -> None:
    """Token, address and URL: nothing of them is run on the way."""
    stock = stocked(tmp_path, host)
    script = stock.script(source=InstallSource(f"https://{text}", text, (text,)))
    done = host.run(script, shell=shell, environment={"CT_OPS_ENROLMENT_TOKEN": text}, download=stock.archive)

    assert 0 == done.returncode, done.stderr
    (call,) = host.calls
    assert (["install", "--address", text], text) == (call["words"], call["token"])
    assert not [*tmp_path.rglob("owned"), *Path().glob("owned")]


# ---- a good run


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("kind", ["gz", "xz"])
@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_the_agent_is_downloaded_verified_and_asked_to_install_itself(
    tmp_path: Path, host: InstallHost, shell: str, kind: str, tool: str
) -> None:
    """With the token in its environment, nothing on its standard input, and nothing left afterwards."""
    stock = stocked(tmp_path, host, kind=kind)
    host.missing = {"curl"} if tool == "wget" else {"wget"}
    done = host.run(stock.script(), shell=shell, environment=TOKEN, download=stock.archive)

    assert 0 == done.returncode, done.stderr
    (call,) = host.calls
    assert ["install", "--address", "ops.example.com:9443"] == call["words"]
    assert (TOKEN["CT_OPS_ENROLMENT_TOKEN"], "") == (call["token"], call["stdin"])
    assert [] == host.left_behind
    assert TOKEN["CT_OPS_ENROLMENT_TOKEN"] not in done.stdout + done.stderr


def test_the_download_is_pinned_like_the_script(tmp_path: Path, host: InstallHost) -> None:
    """And asks for the form that this host can unpack."""
    stock = stocked(tmp_path, host, kind="gz")
    host.run(stock.script(), environment=TOKEN, download=stock.archive)
    words = (host.folder / "curl.log").read_text().splitlines()

    assert SOURCE.pin == words[words.index("--pinnedpubkey") + 1]
    assert f"{SOURCE.base_url}/api/agent/download?os=linux&arch=amd64&format=tar.gz" == words[-1]


def test_skip_verify_reaches_the_agent_and_nothing_else_does(tmp_path: Path, host: InstallHost) -> None:
    """Only where it was asked for."""
    stock = stocked(tmp_path, host)
    script = stock.script(skip_verify=True, address="[2001:db8::1]:1")
    host.run(script, environment=TOKEN, download=stock.archive)

    assert ["install", "--address", "[2001:db8::1]:1", "--tls-skip-verify"] == host.calls[0]["words"]


def test_the_agents_own_verdict_is_the_scripts(tmp_path: Path, host: InstallHost) -> None:
    """Its exit code says what became of the enrolment."""
    host.agent_exits = 77
    stock = stocked(tmp_path, host)
    done = host.run(stock.script(), environment=TOKEN, download=stock.archive)

    assert (77, []) == (done.returncode, host.left_behind)


# ---- hosts that cannot


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        ({"uid": 1000}, 77, "become root"),
        ({"system": "FreeBSD"}, 1, "this host runs FreeBSD"),
        ({"machine": "riscv64"}, 1, "processor riscv64"),
        ({"machine": "aarch64"}, 69, "no agent for linux/arm64 on its shelf"),
        ({"libc": "glibc 2.28"}, 1, "needs glibc 2.30 or later and this host has 2.28"),
        ({"libc": "", "musl": True}, 1, "the C library musl"),
        ({"free_kib": 1}, 1, "are needed"),
        ({"missing": {"curl", "wget"}}, 1, "curl or wget"),
        ({"missing": {"tar"}}, 1, "tar is needed"),
        ({"missing": {"sha256sum"}}, 1, "sha256sum is needed"),
    ],
)
def test_a_host_that_cannot_run_the_agent_is_told_so_before_anything_happens(
    tmp_path: Path, host: InstallHost, change: dict[str, object], code: int, sentence: str
) -> None:
    """Each with its sentence and its exit code."""
    stock = stocked(tmp_path, host)
    for name, value in change.items():
        setattr(host, name, value)
    done = host.run(stock.script(), environment=TOKEN, download=stock.archive)

    assert (code, []) == (done.returncode, host.calls)
    assert sentence in done.stderr
    assert [] == host.left_behind


@pytest.mark.parametrize("libc", ["glibc 2.30", "glibc 2.41", "glibc 3.0"])
def test_a_c_library_that_is_new_enough_will_do(tmp_path: Path, host: InstallHost, libc: str) -> None:
    """Compared as numbers: 2.4 is older than 2.30."""
    host.libc = libc
    stock = stocked(tmp_path, host)

    done = host.run(stock.script(), environment=TOKEN, download=stock.archive)

    assert 0 == done.returncode, done.stderr


def test_an_archive_that_this_host_cannot_unpack_is_said(tmp_path: Path, host: InstallHost) -> None:
    """The shelf has .tar.xz only, and there is no xz."""
    stock = stocked(tmp_path, host, kind="xz")
    host.missing = {"xz"}
    done = host.run(stock.script(), environment=TOKEN, download=stock.archive)

    assert (1, True) == (done.returncode, "install xz" in done.stderr)


def test_without_a_token_a_new_host_gets_no_agent(tmp_path: Path, host: InstallHost) -> None:
    """It would wait for one for ever."""
    stock = stocked(tmp_path, host)
    done = host.run(stock.script(), download=stock.archive)

    assert (2, []) == (done.returncode, host.calls)
    assert "CT_OPS_ENROLMENT_TOKEN is not set" in done.stderr


def test_an_empty_shelf_is_said_on_the_host(tmp_path: Path, host: InstallHost) -> None:
    """With what to do on the server."""
    script = install_script(SOURCE, [])
    done = host.run(script, environment=TOKEN)

    assert 69 == done.returncode
    assert "release add" in done.stderr


# ---- attacks and accidents on the way


def test_attack_an_archive_that_was_tampered_with_is_not_unpacked(tmp_path: Path, host: InstallHost) -> None:
    """Its SHA-256 is not the one in the script."""
    stock = stocked(tmp_path, host)
    other = tmp_path / "other"
    other.write_bytes(agent_archive(host.agent + "# evil"))
    done = host.run(stock.script(), environment=TOKEN, download=other)

    assert (65, [], []) == (done.returncode, host.calls, host.left_behind)
    assert "nothing was installed" in done.stderr


def test_attack_a_manifest_that_the_release_key_did_not_sign_stops_the_install(
    tmp_path: Path, host: InstallHost
) -> None:
    """Where openssl is there to see it."""
    stock = stocked(tmp_path, host)
    manifest = stock.shelf.describe(stock.archive, glibc_floor="2.30")
    stock.shelf.add(stock.archive, manifest, sign(manifest, ec.generate_private_key(ec.SECP256R1())))
    done = host.run(stock.script(), environment=TOKEN, download=stock.archive)
    host.missing = {"openssl"}
    without = host.run(stock.script(), environment=TOKEN, download=stock.archive)

    assert (65, 0) == (done.returncode, without.returncode)
    assert "not signed by the release key" in done.stderr


def test_attack_a_script_that_was_cut_off_does_nothing(tmp_path: Path, host: InstallHost) -> None:
    """A connection may break at any byte; the shell has begun to read by then."""
    stock = stocked(tmp_path, host)
    script = stock.script()
    lines = script.splitlines(keepends=True)
    for end in range(0, len(lines) - 1, 9):
        host.run("".join(lines[:end]), environment=TOKEN, download=stock.archive)

    assert ([], []) == (host.calls, host.left_behind)


def test_a_download_that_fails_leaves_nothing(tmp_path: Path, host: InstallHost) -> None:
    """And says which tool failed, with its code."""
    stock = stocked(tmp_path, host)
    done = host.run(stock.script(), environment=TOKEN)

    assert (69, []) == (done.returncode, host.left_behind)
    assert "could not be downloaded" in done.stderr


def test_an_archive_without_an_agent_is_said(tmp_path: Path, host: InstallHost) -> None:
    """Somebody put the wrong thing on the shelf."""
    stock = stocked(tmp_path, host, program=None)
    done = host.run(stock.script(), environment=TOKEN, download=stock.archive)

    assert (65, []) == (done.returncode, host.left_behind)
    assert "holds no agent" in done.stderr


# ---- values


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:0",
        "host:65536",
        "host:x",
        "-a.example:1",
        "a_b:1",
        "a..b:1",
        "999.1.1.1:1",
        "::1:9443",
        "[::1]",
        "[zz]:1",
        "a b:1",
        '";evil;":1',
        "$(x):1",
        "a" * 64 + ":1",
        ".".join(["a" * 60] * 5) + ":1",
    ],
)
def test_what_is_no_address_is_refused_in_the_words_of_existing_servers(text: str) -> None:
    """It came in a URL."""
    with pytest.raises(AgentAddressError, match="Invalid agent ingest address"):
        agent_address(text)


@pytest.mark.parametrize("text", ["ops.example.com:9443", "192.0.2.1:1", "[2001:db8::1]:65535"])
def test_an_address_is_one(text: str) -> None:
    """Names, IPv4, IPv6 in brackets."""
    assert text == agent_address(text) == parse_address(text)


def test_the_line_pins_the_key_where_it_is_known(tmp_path: Path, host: InstallHost) -> None:
    """Else the host's roots decide; and with nothing on the shelf there is no line."""
    found = stocked(tmp_path, host).shelf.everything()
    pinned, unpinned = (install_offer(source, found, "tok") for source in (SOURCE, replace(SOURCE, pin="")))

    assert pinned.line == (
        f"curl -fsSLk --pinnedpubkey '{SOURCE.pin}' 'https://ops.example.com:9443/api/agent/install' "
        "| CT_OPS_ENROLMENT_TOKEN='tok' sh"
    )
    assert unpinned.line is not None
    assert unpinned.line.startswith("curl -fsSL 'https://")
    assert "release add" in str(install_offer(SOURCE, [], "tok").problem)
    assert "INGEST_PUBLIC_ADDRESS" in str(install_offer(None, found, "tok").problem)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed on this host")
def test_shellcheck_finds_nothing_in_the_script(tmp_path: Path, host: InstallHost) -> None:
    """As it is sent, in the POSIX dialect."""
    script = stocked(tmp_path, host).script()
    done = subprocess.run(
        ["shellcheck", "--shell=sh", "-"], input=script, capture_output=True, text=True, check=False
    )

    assert "" == done.stdout
