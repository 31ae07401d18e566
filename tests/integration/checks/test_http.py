"""HTTP checks against real servers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from check_peers import (
    IPV6,
    LOCAL_NAMES,
    Serve,
    endlessly,
    free_port,
    listening,
    run,
    saying,
    sign,
    silence,
)
from ct_ops_agent.checks import http_request
from ct_ops_agent.checks.http_request import probe
from ct_ops_agent.checks.verdict import Verdict
from ct_ops_agent.work import CheckStatus
from ct_ops_proto.checks import HttpCheck
from work_desk import until


class Site:
    """A small web site that remembers what it was asked."""

    def __init__(self, **pages: bytes) -> None:
        self.pages = {f"/{name}".replace("/root", "/"): page for name, page in pages.items()}
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        path = head.split(b" ")[1].decode().partition("?")[0]
        writer.write(self.pages.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def page(body: bytes = b"hello", status: bytes = b"200 OK", *headers: bytes) -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n" % (status, len(body))
    return head + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


def redirect(to: str, status: bytes = b"302 Found") -> bytes:
    return page(b"", status, b"Location: " + to.encode())


async def ask(serve: Serve, path: str = "/", *, seconds: float = 10.0, **config: Any) -> Verdict:
    async with listening(serve) as port:
        return await run(probe, HttpCheck(url=f"http://127.0.0.1:{port}{path}", **config), seconds)


async def test_the_expected_status_passes() -> None:
    """In the words of existing agents."""
    verdict = await ask(Site(root=page()).serve)

    assert (CheckStatus.PASS, "HTTP 200") == (verdict.status, verdict.output)


async def test_another_status_fails() -> None:
    """Also in their words."""
    verdict = await ask(Site().serve)

    assert (CheckStatus.FAIL, "expected HTTP 200, got 404") == (verdict.status, verdict.output)


async def test_nobody_there_fails() -> None:
    """A request that fails is a fail, as existing agents have it."""
    verdict = await run(probe, HttpCheck(url=f"http://127.0.0.1:{free_port()}/"))

    assert (CheckStatus.FAIL, "request failed: Connection refused") == (verdict.status, verdict.output)


async def test_method_and_headers_go_out_as_configured() -> None:
    """One of ours (here ``User-Agent``) gives way to a configured one of the same name."""
    site = Site(root=page())

    await ask(site.serve, "/?q=a b&ä", method="PUT", headers={"X-Token": "s3cret", "user-agent": "mine"})

    (head,) = site.heads
    assert head.startswith(b"PUT /?q=a%20b&%C3%A4 HTTP/1.1\r\n")
    assert b"\r\nX-Token: s3cret\r\n" in head
    assert b"\r\nContent-Length: 0\r\n" in head
    assert 1 == head.lower().count(b"user-agent:")


@pytest.mark.parametrize(
    ("sent", "wanted", "status"),
    [
        (page("Größe: ok".encode()), "Größe", CheckStatus.PASS),
        (page("Größe".encode("latin-1"), b"200 OK", b"Content-Type: text/plain; charset=ISO-8859-1"), "Größe", CheckStatus.PASS),
        (page(b"\xff\xfe", b"200 OK", b"Content-Type: text/plain; charset=punycode"), "ok", CheckStatus.FAIL),
        (page(b"maintenance"), "ok", CheckStatus.FAIL),
        (page(b"x" * http_request.MAX_BODY_BYTES + b"ok"), "ok", CheckStatus.FAIL),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nal\r\n2\r\nl \r\n2\r\nok\r\n0\r\n\r\n", "all ok", CheckStatus.PASS),
    ],
)  # fmt: skip
async def test_the_body_has_to_contain_what_is_wanted(sent: bytes, wanted: str, status: CheckStatus) -> None:
    """As text, in the encoding that the answer names; no more than the first MiB."""
    verdict = await ask(Site(root=sent).serve, body_contains=wanted)

    assert status == verdict.status


async def test_a_redirect_is_followed() -> None:
    """Relative and absolute."""
    site = Site(root=redirect("/next"), next=page())

    assert CheckStatus.PASS == (await ask(site.serve)).status


async def test_a_redirect_that_is_expected_is_not_followed() -> None:
    """With existing agents nobody can check that a redirect is there."""
    verdict = await ask(Site(root=redirect("/next")).serve, expected_status=302)

    assert (CheckStatus.PASS, "HTTP 302") == (verdict.status, verdict.output)


async def test_headers_do_not_go_to_another_address() -> None:
    """They may hold a password, and a redirect is the word of whoever answered."""
    other = Site(root=page())
    async with listening(other.serve) as port:
        site = Site(root=redirect(f"http://127.0.0.1:{port}/"))
        verdict = await ask(site.serve, headers={"Authorization": "Bearer s3cret"})

    assert CheckStatus.PASS == verdict.status
    assert b"s3cret" in site.heads[0]
    assert b"s3cret" not in other.heads[0]


async def test_a_circle_of_redirects_ends() -> None:
    """After ten."""
    verdict = await ask(Site(root=redirect("/")).serve)

    assert (CheckStatus.FAIL, "request failed: more than 10 redirects") == (verdict.status, verdict.output)


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "gopher://127.0.0.1/", "http://", "http://[::1/", "http://a\x0bb/"]
)
async def test_a_redirect_to_no_http_address_fails(to: str) -> None:
    """Only http is spoken, whatever a server wishes."""
    verdict = await ask(Site(root=redirect(to)).serve)

    assert CheckStatus.FAIL == verdict.status
    assert verdict.output.isprintable()


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD"])
@pytest.mark.parametrize("status", [b"302 Found", b"303 See Other", b"307 Temporary Redirect"])
async def test_a_redirect_keeps_the_method_where_it_must(method: str, status: bytes) -> None:
    """RFC 9110, 15.4: 303 asks with GET, 302 turns POST into GET, 307 repeats."""
    site = Site(root=redirect("/next", status), next=page())

    await ask(site.serve, method=method)

    turns = method == "POST" and not status.startswith(b"307")
    assert ("GET" if turns else method).encode() == site.heads[1].split(b" ")[0]


async def test_only_the_configured_ca_is_believed(tmp_path: Path) -> None:
    """Given as text or as a file; without it a private CA is not trusted, and the reason is said."""
    root = sign("Private Root", is_ca=True)
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(root.pem)
    context = sign(by=root, names=LOCAL_NAMES).context(tmp_path)

    async with listening(Site(root=page()).serve, tls=context) as port:
        url = f"https://127.0.0.1:{port}/"
        configs = (
            HttpCheck(url=url),
            HttpCheck(url=url, ca_pem=root.pem),
            HttpCheck(url=url, ca_file=str(ca_file)),
        )
        verdicts = [await run(probe, config) for config in configs]

    assert [CheckStatus.FAIL, CheckStatus.PASS, CheckStatus.PASS] == [each.status for each in verdicts]
    assert verdicts[0].output.startswith("request failed: certificate not trusted: ")


async def test_a_self_signed_certificate_can_be_the_ca_itself(tmp_path: Path) -> None:
    """Then it is the only one that is believed, and its name still counts."""
    signed = sign(names=LOCAL_NAMES)
    async with listening(Site(root=page()).serve, tls=signed.context(tmp_path)) as port:
        right = await run(probe, HttpCheck(url=f"https://127.0.0.1:{port}/", ca_pem=signed.pem))

    other = sign()
    async with listening(Site(root=page()).serve, tls=other.context(tmp_path)) as port:
        wrong = await run(probe, HttpCheck(url=f"https://127.0.0.1:{port}/", ca_pem=other.pem))

    assert (CheckStatus.PASS, CheckStatus.FAIL) == (right.status, wrong.status)


@pytest.mark.parametrize("content", ["", "no certificate", None])
async def test_a_ca_that_cannot_be_used_is_an_error(content: str | None, tmp_path: Path) -> None:
    """Nothing was asked then, so nothing is known about the site."""
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)

    verdict = await run(probe, HttpCheck(url="https://127.0.0.1/", ca_file=str(ca_file)))

    assert CheckStatus.ERROR == verdict.status
    assert "the CA to believe cannot be used" in verdict.output


@pytest.mark.skipif(not IPV6, reason="this host has no IPv6 loopback")
async def test_an_ipv6_address_is_written_in_brackets() -> None:
    """In the URL and in the Host header."""
    site = Site(root=page())
    async with listening(site.serve, "::1") as port:
        verdict = await run(probe, HttpCheck(url=f"http://[::1]:{port}/"))

    assert CheckStatus.PASS == verdict.status
    assert b"Host: [::1]:%d\r\n" % port in site.heads[0]


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check looks at what it names, from this host."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")

    assert CheckStatus.PASS == (await ask(Site(root=page()).serve)).status


@pytest.mark.parametrize(
    "serve",
    [
        silence,
        endlessly(b"HTTP/1.1 200 OK\r\n", pause=0.02),
        endlessly(b"x", pause=0.02),
        endlessly(b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.02),
        endlessly(b"x" * 65_536),
    ],
    ids=["silence", "headers", "drip", "continue", "flood"],
)
async def test_a_server_that_never_ends_costs_no_more_than_the_timeout(serve: Serve) -> None:
    """However short each of its pauses is."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    verdict = await ask(serve, seconds=0.5, body_contains="ok")

    assert CheckStatus.FAIL == verdict.status
    assert loop.time() - began < 20


@pytest.mark.parametrize("said", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 70_000])
async def test_what_is_no_http_fails(said: bytes) -> None:
    """One sentence, printable and short."""
    verdict = await ask(saying(said))

    assert CheckStatus.FAIL == verdict.status
    assert verdict.output.isprintable()
    assert len(verdict.output) < 400


async def test_no_connection_is_left_behind(tmp_path: Path) -> None:
    """The existing system once leaked a descriptor with every run."""
    context = sign(names=LOCAL_NAMES).context(tmp_path)
    async with listening(silence, tls=context) as port:
        config = HttpCheck(url=f"https://127.0.0.1:{port}/")
        await run(probe, config, seconds=0.1)
        before = descriptors()
        for _ in range(5):
            await run(probe, config, seconds=0.1)

        # Ours are closed; the listener's half may take its moment.
        await until(lambda: descriptors() <= before)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
