"""What gRPC says becomes one of the agent's own errors, in words for an operator."""

from contextlib import suppress

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from ct_ops_agent.control_plane import Route
from ct_ops_agent.errors import CredentialRejectedError, EnrolmentRefusedError, UnreachableError
from ct_ops_agent.refusals import refused_registration, refused_stream
from ct_ops_agent.transport.control_plane import GrpcConnector, translate


def failure(code: grpc.StatusCode, details: str = "", *trailing: tuple[str, str]) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(*trailing), details)


@pytest.mark.parametrize(
    ("details", "said"),
    [
        (
            "… CERTIFICATE_VERIFY_FAILED: self signed certificate: OK",
            "not signed by an authority this agent trusts",
        ),
        (
            "… OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: certificate has expired: OK",
            "its certificate has expired; this host's clock says 1970-01-01T00:00:00Z: if that is wrong, set it",
        ),
        (
            "… OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: certificate is not yet valid: OK",
            "its certificate is not valid yet; this host's clock says 1970-01-01T00:00:00Z",
        ),
        ("… Hostname Verification Check failed.", "not valid for this name"),
        ("… Failed to connect to remote host: Connection refused", "nothing listens there"),
        ("errors resolving x: Domain name not found", "does not exist in DNS"),
        ("… SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER", "does not speak TLS"),
        ("Stream removed (Socket closed)", "it cut the connection"),
        ("words of next year", "words of next year"),
    ],
)
def test_connection_failures_are_told_in_plain_words(details: str, said: str) -> None:
    """An operator reads what to look at, not a library's internals."""
    error = translate(failure(grpc.StatusCode.UNAVAILABLE, details), "server:1", refused_stream, 0.0)

    assert isinstance(error, UnreachableError)
    assert str(error).startswith("cannot reach server:1: ")
    assert said in str(error)


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ("recvmsg:Connection reset by peer (104)", True),
        ("Socket closed", True),
        ("Connection refused", False),
    ],
)
def test_a_hang_up_is_told_from_silence(details: str, *, expected: bool) -> None:
    """A server that cuts the handshake may dislike the leaf; one that is not there does not."""
    error = translate(failure(grpc.StatusCode.UNAVAILABLE, details), "server:1", refused_stream, 0.0)

    assert isinstance(error, UnreachableError)
    assert expected is error.cut_off_in_handshake


def test_a_reason_wins_over_the_status() -> None:
    """UNAVAILABLE with a reason is a statement of the server, not of the network."""
    refusal = failure(grpc.StatusCode.UNAVAILABLE, "", ("ct-ops-reason", "leaf_expired"))

    assert isinstance(translate(refusal, "server:1", refused_stream, 0.0), CredentialRejectedError)


def test_each_call_has_its_own_table() -> None:
    """UNAUTHENTICATED on a stream: register again; on Register: refused."""
    refusal = failure(grpc.StatusCode.UNAUTHENTICATED, "invalid token")

    assert isinstance(translate(refusal, "server:1", refused_stream, 0.0), CredentialRejectedError)
    assert isinstance(translate(refusal, "server:1", refused_registration, 0.0), EnrolmentRefusedError)


async def test_after_a_failure_the_next_address_is_tried() -> None:
    """A token may name several; a refusal does not move on, silence does."""
    connect, route, tried = GrpcConnector(), Route(("a:1", "b:2"), ""), list[str]()

    for _ in range(3):
        with suppress(UnreachableError):
            async with connect(route, None) as session:
                tried.append(session._address)
                raise UnreachableError("silent")

    assert ["a:1", "b:2", "a:1"] == tried
