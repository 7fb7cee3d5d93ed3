import json
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailinfra.sandbox.gcp.http import ApiError, Request, Response, Router, Server, listen_on_loopback
from mailinfra.sandbox.pki import Authority


def echo(request: Request) -> Response:
    if request.path == "/missing":
        raise ApiError(404, "not here")
    if request.path == "/broken":
        raise RuntimeError("a secret detail")
    return Response(
        {
            "method": request.method,
            "path": request.path,
            "query": dict(request.query),
            "body": len(request.body),
        }
    )


@pytest.fixture
def url() -> Iterator[str]:
    listener = listen_on_loopback()
    server = Server(listener, echo)
    server.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.stop()


def ask(url: str, data: bytes | None = None) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(url, data, timeout=10) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_request_arrives_whole(url: str) -> None:
    assert ask(f"{url}/a%2Fb?c=d%20e", b"12345") == (
        200,
        {"method": "POST", "path": "/a%2Fb", "query": {"c": "d e"}, "body": 5},
    )


def test_errors_have_googles_form_and_tell_no_secrets(url: str) -> None:
    code, body = ask(f"{url}/missing")
    assert (code, body["error"]["status"], body["error"]["message"]) == (404, "NOT_FOUND", "not here")  # type: ignore[index]
    code, body = ask(f"{url}/broken")
    assert code == 500
    assert "secret" not in json.dumps(body)


def test_a_body_of_unknown_length_is_refused(url: str) -> None:
    port = int(url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_silent_client_holds_up_nobody_under_tls(tmp_path: Path) -> None:
    authority = Authority.ensure(tmp_path)
    listener = listen_on_loopback()
    server = Server(listener, echo, authority.server_context(["cloudkms.googleapis.test"]))
    server.start()
    address = listener.getsockname()
    context = ssl.create_default_context(cadata=authority.certificate_pem)
    try:
        with (
            socket.create_connection(address),  # says nothing
            socket.create_connection(address, timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="cloudkms.googleapis.test") as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert secure.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        server.stop()


def test_many_requests_go_over_one_connection_at_once(url: str) -> None:
    import http.client

    failed: list[Exception] = []

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", int(url.rsplit(":", 1)[1]), timeout=10)
        try:
            for number in range(50):
                connection.request("GET", f"/{number}")
                assert json.load(connection.getresponse())["path"] == f"/{number}"
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/v1/keys/a", {"key": "a"}),
        ("/v1/keys/a%2Fb", {"key": "a/b"}),
        ("/v1/keys/a:sign", {"key": "a", "verb": "sign"}),
        ("/o/x:y%3Az", {"object": "x:y:z"}),
    ],
)
def test_a_route_is_found_by_its_path(path: str, wanted: dict[str, str]) -> None:
    router = Router()
    router.add("GET", "/v1/keys/{key}", lambda _request, **names: names)
    router.add("GET", "/v1/keys/{key}:sign", lambda _request, **names: {**names, "verb": "sign"})
    router.add("GET", "/o/{object}", lambda _request, **names: names)
    assert router.handle(Request("GET", path)).body == wanted
    with pytest.raises(ApiError, match="has no POST"):
        router.handle(Request("POST", path))


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError):
        Request("POST", "/", body=body).json()
