"""Check ``http``: a request is answered as expected.

Rules kept here:

* ``http.client`` and not a larger library: the agent stays small, nothing reads proxies from the environment,
  and each connection is ours to cut when the time is over.
* Redirects are followed, ten at most, unless a redirect is what is expected. The configured headers may hold
  a password: they go to the address that was configured, never to another one.
* Nothing of an answer is kept but its status; its body is read only where it matters, and no more than a MiB.
* An answer that does not come is a *fail*, a CA that cannot be read an *error*: then nothing was asked.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from ct_ops_agent import __version__
from ct_ops_agent.checks.attempt import Attempt, connect
from ct_ops_agent.checks.host_files import UnreadableFileError, read_host_file
from ct_ops_agent.checks.trust import SYSTEM_TRUST, own_trust
from ct_ops_agent.checks.verdict import Verdict, failed, passed, reason, undone
from ct_ops_proto.checks import HttpCheck

MAX_BODY_BYTES = 1024 * 1024
MAX_REDIRECTS = 10
_MAX_CA_BYTES = 1024 * 1024
_REDIRECTS = {301, 302, 303, 307, 308}
_PORTS = {"http": 80, "https": 443}
_ENCODINGS = {"utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16"}
"""Others are read as UTF-8: some of Python's codecs take minutes for a text that was made for it."""

_URL_SAFE = "/%:=&?~+!$,;'@()*[]"


class _BadAnswerError(Exception):
    """``str()`` says what is wrong with an answer."""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: str
    headers: Mapping[str, str]

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def origin(self) -> tuple[str, str, int]:
        parts = self.parts
        return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    location: str
    body: str


def probe(config: HttpCheck, attempt: Attempt) -> Verdict:
    """Ask, follow, compare."""
    try:
        trust = _trust(config)
    except (UnreadableFileError, ssl.SSLError, ValueError) as error:
        return undone(f"the CA to believe cannot be used: {reason(error)}")
    try:
        return _compare(config, _follow(config, trust, attempt))
    except ssl.SSLCertVerificationError as error:
        return failed(f"request failed: certificate not trusted: {error.verify_message}")
    except (OSError, ValueError, http.client.HTTPException, _BadAnswerError) as error:
        return failed(f"request failed: {reason(error)}")


def _compare(config: HttpCheck, answer: _Answer) -> Verdict:
    if answer.status != config.expected_status:
        return failed(f"expected HTTP {config.expected_status}, got {answer.status}")
    if config.body_contains not in answer.body:
        return failed(f"HTTP {answer.status}, but the answer does not contain {config.body_contains!r}")
    return passed(f"HTTP {answer.status}")


def _follow(config: HttpCheck, trust: Callable[[], ssl.SSLContext], attempt: Attempt) -> _Answer:
    request = _Request(config.method, config.url, config.headers)
    for _ in range(MAX_REDIRECTS + 1):
        answer = _ask(request, config, trust, attempt)
        is_redirect = answer.status in _REDIRECTS and answer.location
        if answer.status == config.expected_status or not is_redirect:
            return answer
        request = redirected(request, answer.status, answer.location)
    raise _BadAnswerError(f"more than {MAX_REDIRECTS} redirects")


def redirected(request: _Request, status: int, location: str) -> _Request:
    """Return the request that a redirect asks for: without our headers when it leads to another address."""
    url = urljoin(request.url, location)
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise _BadAnswerError("redirected to what is no http address")
    turns_to_get = status == 303 or (status in {301, 302} and request.method == "POST")
    method = "GET" if turns_to_get and request.method != "HEAD" else request.method
    following = replace(request, method=method, url=url)
    return following if following.origin == request.origin else replace(following, headers={})


def _ask(
    request: _Request, config: HttpCheck, trust: Callable[[], ssl.SSLContext], attempt: Attempt
) -> _Answer:
    scheme, host, port = request.origin
    plain = connect(host, port, attempt)
    with attempt.watching(plain):
        if scheme == "http":
            return _exchange(request, config, plain, attempt)
        secured = trust().wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        with attempt.watching(secured):
            secured.settimeout(attempt.left())
            secured.do_handshake()
            return _exchange(request, config, secured, attempt)


def _exchange(request: _Request, config: HttpCheck, connection: socket.socket, attempt: Attempt) -> _Answer:
    _, host, port = request.origin
    talk = http.client.HTTPConnection(host, port)
    talk.sock = connection
    connection.settimeout(attempt.left())
    _send(talk, request)
    with talk.getresponse() as response:
        is_of_interest = config.body_contains and response.status == config.expected_status
        return _Answer(
            status=response.status,
            location=response.getheader("Location", ""),
            body=_read_body(response, attempt, connection) if is_of_interest else "",
        )


def _send(talk: http.client.HTTPConnection, request: _Request) -> None:
    parts = request.parts
    target = quote(parts.path or "/", safe=_URL_SAFE)
    if parts.query:
        target += "?" + quote(parts.query, safe=_URL_SAFE)
    talk.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
    given = {name.lower() for name in request.headers}
    for name, value in _own_headers(request).items():
        if name.lower() not in given:
            talk.putheader(name, value)
    for name, value in request.headers.items():
        talk.putheader(name, value)
    talk.endheaders()


def _own_headers(request: _Request) -> Mapping[str, str]:
    scheme, host, port = request.origin
    name = f"[{host}]" if ":" in host else host.encode("idna").decode()
    headers = {
        "Host": name if port == _PORTS[scheme] else f"{name}:{port}",
        "User-Agent": f"ct-ops-agent/{__version__}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    if request.method in {"POST", "PUT"}:
        headers["Content-Length"] = "0"
    return headers


def _read_body(response: http.client.HTTPResponse, attempt: Attempt, connection: socket.socket) -> str:
    content = bytearray()
    while len(content) < MAX_BODY_BYTES:
        connection.settimeout(attempt.left())
        piece = response.read(min(16_384, MAX_BODY_BYTES - len(content)))
        if not piece:
            break
        content += piece
    charset = response.headers.get_content_charset("utf-8")
    return content.decode(charset if charset in _ENCODINGS else "utf-8", errors="replace")


def _trust(config: HttpCheck) -> Callable[[], ssl.SSLContext]:
    """Return whom to believe once there is TLS: the host's own CAs, or only those that were configured."""
    if not config.ca_file and not config.ca_pem:
        return SYSTEM_TRUST.context
    pem = config.ca_pem or read_host_file(config.ca_file, _MAX_CA_BYTES).decode("ascii", errors="replace")
    context = own_trust(pem)
    return lambda: context
