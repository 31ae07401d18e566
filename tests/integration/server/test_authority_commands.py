"""``ct-ops-server ca …`` as operators see it: what is said, what is asked, what is refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from ct_ops_server.cli.root import main
from own_authority import make_ca, with_unreadable_name
from real_server import RealServer


@pytest.fixture
def environ(sqlite_server: RealServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands of this process ask that server."""
    monkeypatch.setenv("INGEST_DATA_DIR", str(sqlite_server.settings.data_dir))
    monkeypatch.setenv("DATABASE_URL", "")


async def ctl(*arguments: str, answers: str = "") -> Result:
    """Run a command in a thread, as the server runs on this loop."""
    return await asyncio.to_thread(CliRunner().invoke, main, arguments, input=answers)


async def shown() -> Any:
    return json.loads((await ctl("ca", "status", "--json")).stdout)


async def until_nobody_is_behind() -> None:
    async with asyncio.timeout(30):
        while (await shown())["workers_behind"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_rotation_is_one_command_that_says_what_it_does(
    sqlite_server: RealServer, environ: None
) -> None:
    """It asks, and no is no; retiring names the hosts that still need the one before."""
    await sqlite_server.enrolled("web-1")
    no = await ctl("ca", "rotate", answers="n\n")
    states = [each["state"] for each in (await shown())["authorities"]]
    prepared = await ctl("ca", "rotate", answers="y\n")
    await until_nobody_is_behind()
    activated = await ctl("ca", "rotate", "--step", "activate", "--yes")
    await until_nobody_is_behind()
    unexpected = await ctl("ca", "rotate", "--step", "prepare", "--yes")
    refused = await ctl("ca", "rotate", "--yes")
    table = await ctl("ca", "status")
    forced = await ctl("ca", "rotate", "--yes", "--force")

    assert (1, ["active"]) == (no.exit_code, states)
    assert "prepare (agent CA): make the next one" in no.stderr
    assert [0, 0, 0] == [each.exit_code for each in (prepared, activated, forced)]
    assert (1, 1) == (unexpected.exit_code, refused.exit_code)
    assert "is to retire, not to prepare" in unexpected.stderr
    assert "1 active agent holds a good leaf of it: web-1" in refused.stderr
    assert "or --force it" in refused.stderr
    for word in ("outgoing", "active", "1 (100%)", "TOKEN KEY"):
        assert word in table.stdout


async def test_the_latest_step_is_undone_and_then_there_is_nothing_to_undo(
    sqlite_server: RealServer, environ: None
) -> None:
    """For the token key as for the agent CA."""
    await ctl("ca", "rotate", "--jwt", "--yes")
    undone = await ctl("ca", "rotate", "--jwt", "--back", "--yes")
    nothing = await ctl("ca", "rotate", "--jwt", "--back", "--yes")

    assert (0, 1) == (undone.exit_code, nothing.exit_code)
    assert "nothing to undo" in nothing.stderr
    assert ["active", "retired"] == [each["state"] for each in (await shown())["signing_keys"]]


async def test_an_own_ca_is_named_in_the_command(
    sqlite_server: RealServer, environ: None, tmp_path: Path
) -> None:
    """Certificate and key belong together; the key is nowhere in what is printed."""
    own = make_ca("Own Agents", above=make_ca("Own Root"))
    said = own.write(tmp_path / "pki")
    cert, key = said["INGEST_AGENT_CA_CERT"], said["INGEST_AGENT_CA_KEY"]
    half = await ctl("ca", "rotate", "--cert", cert, "--yes")
    done = await ctl("ca", "rotate", "--cert", cert, "--key", key, "--yes", "--json")

    assert (2, 0) == (half.exit_code, done.exit_code)
    assert "belong together" in half.stderr
    assert ["CN=CT-Ops Agent CA", "CN=Own Agents"] == [
        each["subject"] for each in (await shown())["authorities"]
    ]
    assert "PRIVATE" not in done.output


async def test_a_ca_is_not_brought_as_a_token_key(
    sqlite_server: RealServer, environ: None, tmp_path: Path
) -> None:
    """Options that contradict each other are refused before anything is asked, and the server does so too."""
    said = make_ca("Own Agents").write(tmp_path / "pki")
    own = ("--cert", said["INGEST_AGENT_CA_CERT"], "--key", said["INGEST_AGENT_CA_KEY"])
    refused = [await ctl("ca", "rotate", "--yes", *own, each) for each in ("--jwt", "--back", "--hurry")]
    plan = await sqlite_server.ask("GET", "/v1/authority/jwt/next")
    body = {"actor": "test", "version": plan["version"], "certificates": "c", "private_key": "k"}
    answer = await sqlite_server.ask("POST", "/v1/authority/jwt/prepare", body)

    assert [2, 2, 2] == [each.exit_code for each in refused]
    assert "--jwt is about the key of agent tokens: leave out one of the two" in refused[0].stderr
    assert "this step is about the key of agent tokens" in answer["error"]["message"]
    assert ["active"] == [each["state"] for each in (await shown())["signing_keys"]]


async def test_a_ca_that_no_leaf_fits_is_not_prepared(
    sqlite_server: RealServer, environ: None, tmp_path: Path
) -> None:
    """The reason is said, and nothing is there afterwards."""
    permitted = x509.NameConstraints([x509.UniformResourceIdentifier("acme.test")], None)
    said = make_ca("Own Agents", constraints_on_names=permitted).write(tmp_path / "pki")
    own = ("--cert", said["INGEST_AGENT_CA_CERT"], "--key", said["INGEST_AGENT_CA_KEY"])
    refused = await ctl("ca", "rotate", "--yes", *own)

    assert 0 != refused.exit_code
    assert "they permit URIs of 'acme.test' only" in refused.stderr
    assert 1 == len((await shown())["authorities"])


async def test_a_trust_store_is_not_recognised(
    sqlite_server: RealServer, environ: None, tmp_path: Path
) -> None:
    """Nor an intermediate without its root, nor what nobody can read."""
    file = tmp_path / "agent_ca.pem"
    below = make_ca("Below", above=make_ca("Above"))
    bad = {
        "holds 3 CAs": "".join(make_ca(f"Root {number}").pem for number in range(3)),
        "which is neither in the file nor known": replace(below, above=()).pem,
        "cannot be read": with_unreadable_name(make_ca("Odd")),
    }
    for sentence, pem in bad.items():
        file.write_text(pem)
        refused = await ctl("ca", "recognise", str(file))
        assert (1, True) == (refused.exit_code, sentence in refused.stderr)
    file.write_text(make_ca("Root").pem * 700)
    long = await ctl("ca", "recognise", str(file))
    file.write_bytes("# Größe\n".encode("latin-1") + make_ca("No CA", is_ca=False).pem.encode())
    remarked = await ctl("ca", "recognise", str(file))

    assert (2, True) == (long.exit_code, "a whole trust store?" in long.stderr)
    assert "CN=No CA is no CA's certificate" in remarked.stderr
    assert 1 == len((await shown())["authorities"])


async def test_a_key_that_is_lost_is_replaced_by_a_command_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other command says what is the matter; without a yes nothing is done."""
    monkeypatch.setenv("INGEST_DATA_DIR", str(tmp_path / "server"))
    monkeypatch.setenv("DATABASE_URL", "")
    before = (await shown())["authorities"]
    for file in (tmp_path / "server").glob("agent-ca.*"):
        file.unlink()
    refused = await ctl("ca", "status")
    no = await ctl("ca", "replace-lost", answers="n\n")
    yes = await ctl("ca", "replace-lost", "--yes")
    again = await ctl("ca", "replace-lost", "--yes")
    after = (await shown())["authorities"]

    assert (78, 1, 0, 78) == (refused.exit_code, no.exit_code, yes.exit_code, again.exit_code)
    assert "run `ct-ops-server ca replace-lost`" in refused.stderr
    assert "signs from now on" in yes.stdout
    assert "nothing is lost" in again.stderr
    assert [("active", before[0]["name"])] == [(each["state"], each["name"]) for each in before]
    assert [("outgoing", before[0]["name"]), "active"] == [
        (after[0]["state"], after[0]["name"]),
        after[1]["state"],
    ]


async def test_a_foreign_authority_is_recognised_once(
    sqlite_server: RealServer, environ: None, tmp_path: Path
) -> None:
    """By its certificate; what is no CA is refused."""
    file, leaf = tmp_path / "agent_ca.pem", tmp_path / "leaf.pem"
    file.write_text(make_ca("Foreign").pem)
    leaf.write_text(make_ca("No CA", is_ca=False).pem)
    once, twice, never = [await ctl("ca", "recognise", str(each)) for each in (file, file, leaf)]

    assert "is recognised" in once.stdout
    assert "known already" in twice.stdout
    assert (1, True) == (never.exit_code, "is no CA's certificate" in never.stderr)
