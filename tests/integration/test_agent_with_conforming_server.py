"""The whole agent over real TLS, against a server that behaves as existing ones do.

Two kinds of tests: the process as an operator starts it, and the lifecycle inside this process with
waits cut short, for what takes minutes in real life.
"""

import asyncio
import hashlib
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_agent.assembly import built_lifecycle
from ct_ops_agent.clock import Clock
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.daemon import run_once
from ct_ops_agent.errors import (
    ApprovalPendingError,
    ConfigError,
    DataDirectoryError,
    EnrolmentRefusedError,
    UnreachableError,
)
from ct_ops_agent.identity.keystore import KeyPair, load_key_pair, to_pem
from ct_ops_proto.enrolment_token import parse_token
from fakes.conforming_server import ConformingServer, HeartbeatResponse, conforming_server

AGENT = (sys.executable, "-m", "ct_ops_agent")


@pytest.fixture
async def server() -> AsyncIterator[ConformingServer]:
    async with conforming_server() as running:
        running.script.publish_ca = True
        yield running


@pytest.fixture
def config(server: ConformingServer, tmp_path: Path) -> AgentConfig:
    ca_cert_file = tmp_path / "ca.pem"
    ca_cert_file.write_text(server.server_ca.pem)
    return AgentConfig(
        address=server.address,
        ca_cert_file=ca_cert_file,
        tls_skip_verify=False,
        enrolment_token=parse_token("tok_opaque"),
        data_dir=tmp_path / "agent",
        heartbeat_interval=timedelta(seconds=30),
        tags=(),
        hostname=None,
    )


@dataclass
class Living:
    """An agent alive in this process, and the waits it has asked for."""

    due: asyncio.Event
    waits: list[float]
    task: asyncio.Task[None]


@asynccontextmanager
async def living(config: AgentConfig) -> AsyncIterator[Living]:
    """Run an agent whose waits are noted and cut short."""
    due, waits = asyncio.Event(), list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0.01)

    with built_lifecycle(config, due, Clock(sleep=sleep)) as lifecycle:
        task = asyncio.create_task(lifecycle.run())
        try:
            yield Living(due, waits, task)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def run_agent(*arguments: str, stdin: str = "", **environment: str) -> tuple[int, str, str]:
    """Run the agent as a process and return exit code, output and error output."""
    process = await asyncio.create_subprocess_exec(
        *AGENT,
        *arguments,
        env={"PATH": os.environ["PATH"], **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(stdin.encode())
    return process.returncode or 0, output.decode(), errors.decode()


# ---- the process ---------------------------------------------------------------------------------


async def test_a_token_alone_is_enough_to_enrol_and_report(server: ConformingServer, tmp_path: Path) -> None:
    """With nothing but CT_OPS_ENROLMENT_TOKEN the agent finds, verifies and joins the server."""
    token = server.token()

    code, output, errors = await run_agent(
        "run", "--once", CT_OPS_ENROLMENT_TOKEN=token, CT_OPS_DATA_DIR=str(tmp_path / "agent")
    )

    assert (0, 1) == (code, len(server.frames)), errors
    assert "Enrolled as agent agent-1" in output
    assert token.partition(".")[0] == server.registrations[0].org_token
    assert token.partition(".")[0] not in output + errors


async def test_an_enrolled_agent_needs_neither_token_nor_address(
    server: ConformingServer, tmp_path: Path
) -> None:
    """After enrolment the data directory is enough, and the trust bundle is not fetched again."""
    environment = {"CT_OPS_DATA_DIR": str(tmp_path / "agent")}
    await run_agent("run", "--once", CT_OPS_ENROLMENT_TOKEN=server.token(), **environment)

    code, output, errors = await run_agent("run", "--once", **environment)

    assert 0 == code, errors
    assert "Reported as agent agent-1" in output
    assert (1, 1, 2) == (server.ca_requests, len(server.registrations), len(server.frames))


async def test_a_stop_by_sigterm_is_polite_and_quick(server: ConformingServer, tmp_path: Path) -> None:
    """SIGTERM half-closes the stream and ends the daemon with 0, long before its next heartbeat is due."""
    toml = tmp_path / "agent.toml"
    toml.write_text(f'[agent]\nenrolment_token = "{server.token()}"\ndata_dir = "{tmp_path / "agent"}"\n')
    process = await asyncio.create_subprocess_exec(
        *AGENT, "-config", str(toml), stderr=asyncio.subprocess.DEVNULL
    )
    await server.wait_until(lambda: len(server.frames) == 1)
    began = time.monotonic()

    process.send_signal(signal.SIGTERM)
    code = await process.wait()

    assert (0, 1) == (code, server.farewells)
    assert time.monotonic() - began < 20


async def test_a_refused_token_ends_run_once_with_77(server: ConformingServer, tmp_path: Path) -> None:
    """An unknown token is a refusal: 77, and the operator reads what to do."""
    token = server.token()
    server.script.tokens.clear()

    code, _, errors = await run_agent(
        "run", "--once", CT_OPS_ENROLMENT_TOKEN=token, CT_OPS_DATA_DIR=str(tmp_path / "agent")
    )

    assert 77 == code
    assert "invalid or expired enrolment token; create a new one" in errors


async def test_an_unreachable_server_ends_run_once_with_69(tmp_path: Path) -> None:
    """Nobody listens: 69, in plain words."""
    code, _, errors = await run_agent(
        "run",
        "--once",
        CT_OPS_ENROLMENT_TOKEN="tok_opaque",
        CT_OPS_INGEST_ADDRESS="127.0.0.1:1",
        CT_OPS_DATA_DIR=str(tmp_path / "agent"),
    )

    assert 69 == code
    assert "cannot reach 127.0.0.1:1: nothing listens there" in errors


async def test_a_host_without_identity_and_token_ends_with_78(tmp_path: Path) -> None:
    """Neither enrolled nor invited: a configuration problem, named by its key."""
    code, _, errors = await run_agent(CT_OPS_DATA_DIR=str(tmp_path / "agent"))

    assert 78 == code
    assert "agent.enrolment_token: this host is not enrolled and has no enrolment token" in errors


async def test_the_token_may_come_by_standard_input(server: ConformingServer, tmp_path: Path) -> None:
    """`-token -` keeps the token out of the process list and of files."""
    code, _, errors = await run_agent(
        "run",
        "-once",
        "-token",
        "-",
        stdin=f"{server.token()}\n",
        CT_OPS_DATA_DIR=str(tmp_path / "agent"),
    )

    assert 0 == code, errors


async def test_an_enrolled_daemon_loads_nothing_it_does_not_need(
    config: AgentConfig, server: ConformingServer
) -> None:
    """What only enrolment or the server needs stays out of an agent that reports and runs every default collector."""
    await run_once(config)
    unwanted = (
        "cryptography httpx jwt fastapi starlette sqlalchemy alembic uvloop pydantic rich ct_ops_server"
    )
    script = (
        "import asyncio, sys, pathlib\nfrom ct_ops_agent import assembly, cli, daemon\n"
        "from ct_ops_agent.config.load import Flags, load_config\n"
        f"config = load_config(Flags(), {{'CT_OPS_DATA_DIR': {str(config.data_dir)!r},"
        f"'CT_OPS_INGEST_ADDRESS': {config.address!r}, 'CT_OPS_INGEST_CA_CERT': {str(config.ca_cert_file)!r}}}).config\n"
        "asyncio.run(daemon.run_once(config))\n"
        "async def gather():\n"
        "    with assembly.built_agent(config, asyncio.Event()) as agent:\n"
        "        assert agent.gatherer.states()\n"
        "        await agent.gatherer.once()\n"
        "asyncio.run(gather())\n"
        f"print(sorted(set({unwanted!r}.split()) & set(sys.modules)))"
    )

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()

    assert "[]" == output.decode().strip(), errors.decode()


# ---- trust ---------------------------------------------------------------------------------------


async def test_a_pin_that_does_not_match_stops_before_the_token_is_sent(
    config: AgentConfig, server: ConformingServer
) -> None:
    """Attack: a server with another authority answers first contact; it gets no Register."""
    token = parse_token(server.token(pin=bytes(32)))

    with pytest.raises(EnrolmentRefusedError, match="not the one this enrolment token was made for"):
        await run_once(replace(config, address=None, ca_cert_file=None, enrolment_token=token))

    assert [] == server.registrations


async def test_a_server_with_another_certificate_gets_nothing(config: AgentConfig, tmp_path: Path) -> None:
    """Attack: a server that the configured authority did not sign is not spoken to."""
    async with conforming_server() as impostor:
        with pytest.raises(UnreachableError, match="not signed by an authority this agent trusts"):
            await run_once(replace(config, address=impostor.address))

        assert [] == impostor.registrations


async def test_a_certificate_for_another_name_is_refused(config: AgentConfig) -> None:
    """Attack: a good authority does not make up for a wrong host name, also on first contact by pin."""
    async with conforming_server(names=("other.example",)) as server:
        server.script.publish_ca = True
        token = parse_token(server.token())

        with pytest.raises(UnreachableError, match="not valid for this name"):
            await run_once(replace(config, address=None, ca_cert_file=None, enrolment_token=token))

        assert [] == server.registrations


async def test_a_configured_authority_that_differs_from_the_pin_is_refused(
    config: AgentConfig, server: ConformingServer
) -> None:
    """Two statements about whom to believe that contradict each other are a configuration problem."""
    token = parse_token(server.token(pin=bytes(32)))

    with pytest.raises(ConfigError, match=r"ingest\.ca_cert_file: this is not the authority"):
        await run_once(replace(config, enrolment_token=token))


async def test_a_self_signed_server_certificate_may_be_its_own_authority(
    config: AgentConfig, tmp_path: Path
) -> None:
    """ca_cert_file may point at the server's own certificate, as existing installations have it."""
    async with conforming_server(self_signed=True) as server:
        file = tmp_path / "server.crt"
        file.write_text(server.certificate_pem)

        outcome = await run_once(replace(config, address=server.address, ca_cert_file=file))

    assert "agent-1" == outcome.identity.agent_id


async def test_tls_skip_verify_believes_the_first_certificate_and_only_that(
    config: AgentConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """The certificate seen first is pinned, whatever name it has; another one is refused later."""
    careless = replace(config, ca_cert_file=None, tls_skip_verify=True)
    async with conforming_server(names=("other.example",), self_signed=True) as server:
        await run_once(replace(careless, address=server.address))
        await run_once(replace(careless, address=server.address))

        assert 2 == len(server.frames)
    assert "UNVERIFIED" in caplog.text

    async with conforming_server(names=("other.example",), self_signed=True) as impostor:
        with pytest.raises(UnreachableError, match="not signed by an authority"):
            await run_once(replace(careless, address=impostor.address))

        assert [] == impostor.frames


async def test_what_first_contact_learnt_is_forgotten_when_the_token_is_refused(
    config: AgentConfig, server: ConformingServer
) -> None:
    """A token of the wrong server leaves no trust behind that would block the right one."""
    token = parse_token(server.token())
    server.script.tokens.clear()

    with pytest.raises(EnrolmentRefusedError):
        await run_once(replace(config, address=None, ca_cert_file=None, enrolment_token=token))

    assert not (config.data_dir / "server_ca.pem").exists()


# ---- enrolment -----------------------------------------------------------------------------------


async def test_an_agent_waits_for_approval_and_then_reports(
    config: AgentConfig, server: ConformingServer
) -> None:
    """Pending: ask again every 30 s with the same token and key, until an operator approves."""
    server.script.auto_approve = False

    async with living(config) as agent:
        await server.wait_until(lambda: len(server.registrations) == 3)
        server.agents["agent-1"].status = "active"
        await server.wait_until(lambda: len(server.frames) == 1)

    assert {30.0} == set(agent.waits)
    assert 1 == len({(request.org_token, request.public_key) for request in server.registrations})


async def test_run_once_of_a_pending_agent_says_what_it_waits_for(
    config: AgentConfig, server: ConformingServer
) -> None:
    """A single run does not wait for a human."""
    server.script.auto_approve = False

    with pytest.raises(ApprovalPendingError, match="waiting for approval as agent agent-1"):
        await run_once(config)


async def test_an_active_agent_without_a_leaf_asks_again(
    config: AgentConfig, server: ConformingServer
) -> None:
    """An existing server may sign the leaf a little after the approval."""
    server.script.withhold_leaf = 2

    async with living(config):
        await server.wait_until(lambda: len(server.frames) == 1)

    assert 3 == len(server.registrations)


async def test_a_leaf_for_another_key_is_not_kept(config: AgentConfig, server: ConformingServer) -> None:
    """Attack or defect: a certificate that is not about our key is refused, and nothing is written."""
    server.script.leaf_key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()

    with pytest.raises(EnrolmentRefusedError, match="about another key than this agent's"):
        await run_once(config)

    assert not (config.data_dir / "agent_cert.pem").exists()


async def test_a_refused_agent_stays_up_and_retries_slowly(
    config: AgentConfig, server: ConformingServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal does not end the daemon; once the operator has acted, it comes in by itself."""
    server.script.refuse_register = (grpc.StatusCode.ALREADY_EXISTS, "a host with this name exists")

    async with living(config) as agent:
        await server.wait_until(lambda: len(server.registrations) == 3)
        server.script.refuse_register = None
        await server.wait_until(lambda: len(server.frames) == 1)

    assert all(
        nominal * 0.75 <= wait <= nominal for nominal, wait in zip((60, 120, 240), agent.waits, strict=False)
    )
    assert "the server refused: a host with this name exists" in caplog.text


async def test_a_reason_from_the_server_becomes_a_sentence(
    config: AgentConfig, server: ConformingServer
) -> None:
    """`ct-ops-reason` decides the words, whatever the status text says."""
    server.script.refuse_register = (grpc.StatusCode.UNAUTHENTICATED, "no")
    server.script.trailing = (("ct-ops-reason", "token_exhausted"),)

    with pytest.raises(EnrolmentRefusedError, match="the enrolment token has no uses left; create a new one"):
        await run_once(config)


async def test_a_busy_server_decides_when_to_come_back(config: AgentConfig, server: ConformingServer) -> None:
    """`ct-ops-retry-after-ms` is a lower bound for the wait."""
    server.script.refuse_register = (grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
    server.script.trailing = (("ct-ops-reason", "limit"), ("ct-ops-retry-after-ms", "45000"))

    async with living(config) as agent:
        await server.wait_until(lambda: len(server.registrations) == 2)

    assert 45 <= agent.waits[0] <= 45 * 1.25


# ---- the stream ----------------------------------------------------------------------------------


async def test_the_first_frame_names_the_speaker_and_later_ones_the_agent(
    config: AgentConfig, server: ConformingServer
) -> None:
    """The agent token opens a stream, then the agent id is enough; fields of ours disturb nobody."""
    async with living(config) as agent:
        await server.wait_until(lambda: len(server.frames) == 1)
        agent.due.set()
        await server.wait_until(lambda: len(server.frames) == 2)

    assert server.frames[0].agent_id.startswith("eyJ")
    assert "agent-1" == server.frames[1].agent_id
    assert server.frames[0].memory_percent > 0
    assert len(server.frames[0].network_interfaces) > 0


async def test_a_dropped_connection_is_opened_again(config: AgentConfig, server: ConformingServer) -> None:
    """A cut connection costs about a second, and no registration."""
    async with living(config) as agent:
        await server.wait_until(lambda: len(server.frames) == 1)
        await server.drop_connections()
        await server.wait_until(lambda: len(server.frames) == 2)

    assert 1 == len(server.registrations)
    assert 0.75 <= agent.waits[0] <= 1


async def test_frames_that_nobody_asked_for_are_taken(
    config: AgentConfig, server: ConformingServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A server pushes work between heartbeats; the stream goes on, and the log says what is not done."""
    async with living(config) as agent:
        await server.wait_until(lambda: len(server.frames) == 1)
        server.push(update_available=True, latest_version="9.9.9")
        server.push()
        agent.due.set()
        await server.wait_until(lambda: len(server.frames) == 2)
        server.push()
        agent.due.set()
        await server.wait_until(lambda: len(server.frames) == 3)

    assert [] == agent.waits
    assert 1 == caplog.text.count("the server asks for an update")


async def test_a_revoked_agent_keeps_its_key_and_is_let_in_again(
    config: AgentConfig, server: ConformingServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An existing server answers PERMISSION_DENIED: register again, be told *revoked*, wait, come back."""
    async with living(config) as agent:
        await server.wait_until(lambda: len(server.frames) == 1)
        server.agents["agent-1"].status = "revoked"
        server.end_streams(grpc.StatusCode.PERMISSION_DENIED, "agent is revoked")
        await server.wait_until(lambda: len(server.registrations) == 3)
        server.agents["agent-1"].status = "active"
        await server.wait_until(lambda: len(server.frames) == 2)

    assert agent.waits[1] >= 45
    assert "this agent was revoked on the server" in caplog.text
    assert 1 == len({request.public_key for request in server.registrations})


async def test_a_revoked_agent_of_ours_stays_quiet(config: AgentConfig, server: ConformingServer) -> None:
    """FAILED_PRECONDITION on the stream: no registration, only slow tries of the stream."""
    await run_once(config)
    server.script.refuse_stream = (grpc.StatusCode.FAILED_PRECONDITION, "agent is revoked")

    async with living(config) as agent:
        await server.wait_until(lambda: len(agent.waits) >= 2)
        server.script.refuse_stream = None
        await server.wait_until(lambda: len(server.frames) == 2)

    assert 1 == len(server.registrations)
    assert agent.waits[0] >= 45


async def test_a_deleted_agent_registers_again_with_the_same_key(
    config: AgentConfig, server: ConformingServer
) -> None:
    """NOT_FOUND on the stream: Register at once, as a new agent with the old key."""
    async with living(config):
        await server.wait_until(lambda: len(server.frames) == 1)
        server.agents.clear()
        server.end_streams(grpc.StatusCode.NOT_FOUND, "agent not found")
        await server.wait_until(lambda: len(server.frames) == 2)

    assert 1 == len({request.public_key for request in server.registrations})
    assert ["agent-1"] == server.callers[1:]


async def test_an_expired_leaf_does_not_lock_the_agent_out(
    config: AgentConfig, server: ConformingServer
) -> None:
    """A server that hangs up on an expired leaf is asked for a new one without it."""
    await enrol_with_expired_leaf(config, server)

    async with living(config) as agent:
        await server.wait_until(lambda: len(server.frames) == 1)

    assert 1 == len(agent.waits)
    assert {None} == set(server.callers)


async def test_run_once_gets_in_with_an_expired_leaf(config: AgentConfig, server: ConformingServer) -> None:
    """A single run registers again by itself when the server hangs up on its leaf."""
    await enrol_with_expired_leaf(config, server)

    await run_once(config)

    assert 1 == len(server.frames)


async def test_an_existing_server_renews_the_leaf_by_its_own_call(
    config: AgentConfig, server: ConformingServer
) -> None:
    """At half its life, beside the running stream; it is presented from the next connection on."""
    server.script.leaf_lifetime = timedelta(hours=12)  # of a leaf that is a day old: due
    async with living(config) as agent:
        await server.wait_until(lambda: len(server.frames) == 1)
        server.script.leaf_lifetime = timedelta(days=90)
        agent.due.set()
        await server.wait_until(lambda: len(server.renewals) == 1)
        agent.due.set()
        await server.wait_until(lambda: len(server.frames) == 3)
        assert 1 == len(server.stream_leaves)
        await server.drop_connections()
        await server.wait_until(lambda: len(server.frames) == 4)

    renewed = (config.data_dir / "agent_cert.pem").read_text()
    assert [False, True] == [leaf == renewed for leaf in server.stream_leaves]
    assert (1, 1) == (len(server.registrations), len(server.renewals))


async def test_a_leaf_that_an_existing_server_pushes_is_taken_and_nothing_ends(
    config: AgentConfig, server: ConformingServer
) -> None:
    """Existing agents exit over it; ours keeps it for its next connection."""
    async with living(config) as agent:
        await server.wait_until(lambda: len(server.frames) == 1)
        pushed = server.push_leaf("agent-1")
        agent.due.set()
        await server.wait_until(lambda: len(server.frames) == 2)
        await server.drop_connections()
        await server.wait_until(lambda: len(server.frames) == 3)

    assert pushed == (config.data_dir / "agent_cert.pem").read_text() == server.stream_leaves[1]
    assert (2, 1) == (len(server.stream_leaves), len(server.registrations))


async def test_attack_a_pushed_leaf_for_another_key_is_not_taken(
    config: AgentConfig, server: ConformingServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and the agent keeps what it has."""
    async with living(config) as agent:
        await server.wait_until(lambda: len(server.frames) == 1)
        before = (config.data_dir / "agent_cert.pem").read_text()
        server.agents["agent-1"].public_key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        server.push_leaf("agent-1")
        agent.due.set()
        await server.wait_until(lambda: len(server.frames) == 2)

    assert before == (config.data_dir / "agent_cert.pem").read_text()
    assert "the server sent a certificate for another key; it is not used" in caplog.text


async def test_bytes_that_are_no_answer_end_the_stream(
    config: AgentConfig, server: ConformingServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that talks nonsense is left and tried again; the agent lives on."""
    async with living(config):
        await server.wait_until(lambda: len(server.frames) == 1)
        server.push_garbage()
        await server.wait_until(lambda: len(server.frames) == 2)

    assert "sent something that is no answer" in caplog.text


# ---- the data directory --------------------------------------------------------------------------


async def test_a_second_agent_on_the_same_directory_is_refused(
    config: AgentConfig, server: ConformingServer
) -> None:
    """Two agents with one identity would look like a clone: the second one does not start."""
    async with living(config):
        await server.wait_until(lambda: len(server.frames) == 1)

        code, _, errors = await run_agent("run", CT_OPS_DATA_DIR=str(config.data_dir))

    assert 1 == code
    assert "is in use by another ct-ops-agent" in errors


async def test_an_existing_agents_directory_is_taken_over(
    config: AgentConfig, server: ConformingServer
) -> None:
    """Key, state and leaf as an existing agent wrote them: no registration, no file rewritten."""
    await run_once(config)
    keys = load_key_pair(config.data_dir)
    assert keys is not None
    raw_key = to_pem("PRIVATE KEY", keys.seed + keys.public)
    (config.data_dir / "agent_key.pem").write_text(raw_key)
    strip_our_state(config.data_dir / "agent_state.json")
    (config.data_dir / "server_cert.pem").write_text(server.certificate_pem)
    (config.data_dir / "server_cert.pem").chmod(0o644)
    config.data_dir.chmod(0o755)  # as their installer leaves it

    await run_once(replace(config, enrolment_token=None))

    state = json.loads((config.data_dir / "agent_state.json").read_text())
    pinned = hashlib.sha256(ssl.PEM_cert_to_DER_cert(server.certificate_pem)).hexdigest()
    assert (1, 2) == (len(server.registrations), len(server.frames))
    assert raw_key == (config.data_dir / "agent_key.pem").read_text()
    assert pinned == server.frames[1].pinned_server_cert_fingerprint
    assert server.agents["agent-1"].leaf_not_after_unix == state["leaf_not_after_unix"]


async def test_a_leaf_about_another_key_on_disk_is_not_presented(
    config: AgentConfig, server: ConformingServer
) -> None:
    """A data directory that was mixed up heals by registering again."""
    await run_once(config)
    stranger = Ed25519PrivateKey.generate()
    keys = KeyPair(stranger.private_bytes_raw(), stranger.public_key().public_bytes_raw())
    (config.data_dir / "agent_key.pem").write_text(keys.private_pem.reveal())
    (config.data_dir / "agent_key.pub").write_text(keys.public_pem)

    outcome = await run_once(config)

    assert ("agent-2", [None, None]) == (outcome.identity.agent_id, server.callers)


async def test_attack_a_symlinked_data_directory_is_refused(config: AgentConfig, tmp_path: Path) -> None:
    """Attack: whoever plants a link where the agent keeps its key gets nothing."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path)

    with pytest.raises(DataDirectoryError, match="symbolic link"):
        await run_once(replace(config, data_dir=link))


def test_the_fake_knows_nothing_of_ours() -> None:
    """The server of these tests is an existing one: it has no field numbered 100 or above."""
    numbers = [known.number for known in HeartbeatResponse.DESCRIPTOR.fields]

    assert max(numbers) < 100


async def enrol_with_expired_leaf(config: AgentConfig, server: ConformingServer) -> None:
    """Leave an agent behind that was switched off for longer than its leaf lasted."""
    server.script.leaf_lifetime = timedelta(seconds=-5)
    with pytest.raises(UnreachableError):
        await run_once(config)
    server.script.leaf_lifetime = timedelta(days=90)


def strip_our_state(file: Path) -> None:
    """Leave in a state file only what existing agents write."""
    state = json.loads(file.read_text())
    file.write_text(json.dumps({name: state[name] for name in ("agent_id", "jwt_token")}))
