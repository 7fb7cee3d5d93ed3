"""The clouds' metadata services, at 169.254.169.254: a server asks who it is, and is known by its address.

EC2: version 2 of the instance metadata service only (a session token first), as the fleet's nodes are
configured. https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html
GCE: https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mailinfra.sandbox.model import MachineSpec

MAX_TOKEN_SECONDS = 21600
Json = Any
Tree = dict[str, Any]
_TEXT = "text/plain"
_GOOGLE = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
_VERSION = re.compile(r"latest|1\.0|\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Response:
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = _TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Caller:
    """The server that asks, and the public IPv4 address that is mapped to it now."""

    spec: MachineSpec
    public_ipv4: str | None


class MetadataService:
    """Answers for all servers of the sandbox. `find` knows a server by its (private IPv4) address.

    What only the clouds' own parts can make is asked of them: `aws_credentials(spec, role)` gives the
    temporary keys of a role (`AccessKeyId`, `SecretAccessKey`, `Token`, `Expiration`), `gcp_token(spec,
    scopes)` an access token (`access_token`, `expires_in`, `token_type`), `gcp_identity(spec, audience, full)`
    a signed identity (`full` also tells of the instance). Where nobody offers them the answer is 404, as for a
    server without a role.
    """

    def __init__(self) -> None:
        self.find: Callable[[str], Caller | None] = lambda _: None
        self.aws_credentials: Callable[[MachineSpec, str], dict[str, Any]] | None = None
        self.gcp_token: Callable[[MachineSpec, list[str]], dict[str, Any]] | None = None
        self.gcp_identity: Callable[[MachineSpec, str, bool], str] | None = None
        self._secret = secrets.token_bytes(32)
        self._server: ThreadingHTTPServer | None = None

    def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket, in a thread."""
        self._server = _Server(listener, self)
        threading.Thread(target=self._server.serve_forever, name="metadata", daemon=True).start()

    def stop(self) -> None:
        """Stop serving and close the socket."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, source: str, method: str, target: str, headers: Mapping[str, str]) -> Response:
        """The answer to one request. `headers` has lower-case names, `target` is path and query."""
        caller = self.find(source)
        if caller is None:
            return Response(404, b"no server of the sandbox has this address\n")
        if caller.spec.kind == "aws":
            return self._aws(caller, method, urlsplit(target).path, headers)
        if caller.spec.kind == "gcp":
            return self._gcp(caller, method, target, headers)
        return Response(404, b"")

    # Amazon EC2

    def _aws(self, caller: Caller, method: str, path: str, headers: Mapping[str, str]) -> Response:
        if path == "/latest/api/token":
            return self._aws_token(caller, method, headers)
        if method not in ("GET", "HEAD"):
            return Response(405, b"")
        if not self._valid_token(caller.spec, headers.get("x-aws-ec2-metadata-token", "")):
            return Response(401, b"")
        parts = [part for part in path.split("/") if part]
        if parts and not _VERSION.fullmatch(parts[0]):
            return Response(404, b"")
        if parts[1:] == ["user-data"]:
            data = base64.b64decode(caller.spec.user_data)
            return Response(200, data, "application/octet-stream") if data else Response(404, b"")
        return _listing(_aws_tree(caller, self.aws_credentials), parts[1:], lambda name: name)

    def _aws_token(self, caller: Caller, method: str, headers: Mapping[str, str]) -> Response:
        if method != "PUT":
            return Response(405, b"")
        if "x-forwarded-for" in headers:
            return Response(403, b"")
        lifetime = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not lifetime.isdigit() or not 1 <= int(lifetime) <= MAX_TOKEN_SECONDS:
            return Response(400, b"")
        ends = str(int(time.time()) + int(lifetime))
        token = f"{ends}.{self._mac(caller.spec, ends)}"
        return Response(200, token.encode(), headers={"X-aws-ec2-metadata-token-ttl-seconds": lifetime})

    def _valid_token(self, spec: MachineSpec, token: str) -> bool:
        ends, _, mac = token.partition(".")
        if not ends.isdigit() or int(ends) < time.time():
            return False
        return hmac.compare_digest(mac.encode(), self._mac(spec, ends).encode())

    def _mac(self, spec: MachineSpec, ends: str) -> str:
        """A token holds for one server only."""
        return hmac.new(self._secret, f"{spec.id} {ends}".encode(), hashlib.sha256).hexdigest()

    # Google Compute Engine

    def _gcp(self, caller: Caller, method: str, target: str, headers: Mapping[str, str]) -> Response:
        url = urlsplit(target)
        if url.path in ("", "/"):
            return Response(200, b"computeMetadata/\n", headers=_GOOGLE)
        if headers.get("metadata-flavor") != "Google" or "x-forwarded-for" in headers:
            return Response(403, b"Missing Metadata-Flavor:Google header.\n", headers=_GOOGLE)
        if method not in ("GET", "HEAD"):
            return Response(405, b"", headers=_GOOGLE)
        parts = [part for part in url.path.split("/") if part]
        if parts[:2] != ["computeMetadata", "v1"]:
            return Response(404, b"", headers=_GOOGLE)
        query = parse_qs(url.query)
        tree = _gcp_tree(caller)
        made = self._gcp_made(caller, tree, parts[2:], query)
        if made is None:
            recursive = query.get("recursive", ["false"])[0].lower() == "true"
            if recursive:
                found = _walk(tree, parts[2:])
                made = Response(404, b"") if found is None else _json(found)
            elif _is_folder(_walk(tree, parts[2:])) and not url.path.endswith("/"):
                made = Response(301, b"", headers={"Location": f"{url.path}/"})
            else:
                made = _listing(tree, parts[2:], _kebab)
        content_type = "application/text" if made.content_type == _TEXT else made.content_type
        tag = hashlib.sha256(made.body).hexdigest()[:16]
        return Response(made.status, made.body, content_type, {**made.headers, **_GOOGLE, "ETag": tag})

    def _gcp_made(
        self, caller: Caller, tree: Tree, parts: list[str], query: dict[str, list[str]]
    ) -> Response | None:
        """Tokens and identities, which are made for each request; None for what is in the tree."""
        if (
            len(parts) != 4
            or parts[:2] != ["instance", "service-accounts"]
            or parts[3] not in ("token", "identity")
        ):
            return None
        account = tree["instance"].get("serviceAccounts", {}).get(parts[2])
        if account is None:
            return Response(404, b"")
        if parts[3] == "token":
            if self.gcp_token is None:
                return Response(404, b"")
            scopes = [scope for value in query.get("scopes", []) for scope in value.split(",") if scope]
            return _json(self.gcp_token(caller.spec, scopes or list(account.get("scopes", ()))))
        audience = query.get("audience", [""])[0]
        if not audience:
            return Response(400, b"non-empty audience parameter required")
        if self.gcp_identity is None:
            return Response(404, b"")
        full = query.get("format", ["standard"])[0].lower() == "full"
        return Response(200, self.gcp_identity(caller.spec, audience, full).encode())


def _aws_tree(caller: Caller, credentials: Callable[[MachineSpec, str], dict[str, Any]] | None) -> Tree:
    """What EC2 answers for a server, as a tree whose inner nodes are folders."""
    spec, given = caller.spec, caller.spec.metadata
    zone = given.get("availability_zone") or f"{spec.region}a"
    mac = _mac_address(spec.id)
    card: Tree = {
        "device-number": "0",
        "local-hostname": spec.hostname,
        "local-ipv4s": spec.private_ipv4,
        "mac": mac,
        "owner-id": given.get("account_id", ""),
    }
    data: Tree = {
        "ami-id": given.get("image_id", ""),
        "hostname": spec.hostname,
        "instance-id": spec.id,
        "instance-life-cycle": "on-demand",
        "instance-type": given.get("instance_type", ""),
        "local-hostname": spec.hostname,
        "local-ipv4": spec.private_ipv4,
        "mac": mac,
        "network": {"interfaces": {"macs": {mac: card}}},
        "placement": {"availability-zone": zone, "region": spec.region},
        "services": {"domain": "amazonaws.com", "partition": "aws"},
    }
    if caller.public_ipv4:
        data["public-ipv4"] = card["public-ipv4s"] = caller.public_ipv4
    if spec.ipv6:
        data["ipv6"] = card["ipv6s"] = spec.ipv6
    if given.get("instance_metadata_tags") and given.get("tags"):
        data["tags"] = {"instance": dict(given["tags"])}
    role = given.get("role")
    if role and credentials is not None:
        name = str(role).rpartition("/")[2]
        info = {
            "Code": "Success",
            "InstanceProfileArn": given.get("instance_profile_arn", ""),
            "InstanceProfileId": given.get("instance_profile_id", ""),
        }
        data["iam"] = {
            "info": json.dumps(info),
            # Made only when asked for.
            "security-credentials": {name: lambda: _aws_keys(credentials(spec, str(role)))},
        }
    identity = {
        "accountId": given.get("account_id", ""),
        "architecture": "x86_64",
        "availabilityZone": zone,
        "imageId": given.get("image_id", ""),
        "instanceId": spec.id,
        "instanceType": given.get("instance_type", ""),
        "privateIp": spec.private_ipv4,
        "region": spec.region,
        "version": "2017-09-30",
    }
    return {"dynamic": {"instance-identity": {"document": json.dumps(identity, indent=2)}}, "meta-data": data}


def _aws_keys(keys: dict[str, Any]) -> str:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return json.dumps({"Code": "Success", "LastUpdated": now, "Type": "AWS-HMAC", **keys}, indent=2)


def _mac_address(machine: str) -> str:
    """A locally administered address, the same on every call."""
    digest = hashlib.sha256(machine.encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))


def _gcp_tree(caller: Caller) -> Tree:
    """What GCE answers for a server, in the spelling of its recursive answers. The spec's own tree goes
    first.
    """
    spec = caller.spec
    given: Tree = spec.metadata.get("instance", {})
    attributes = dict(given.get("attributes", {}))
    script = base64.b64decode(spec.user_data).decode(errors="replace")
    if script:
        attributes.setdefault("startup-script", script)
    cards = given.get("networkInterfaces") or [{"ip": spec.private_ipv4}]
    # Addresses can be mapped anew while a server runs; the router knows what holds now.
    outside = [{"externalIp": caller.public_ipv4, "type": "ONE_TO_ONE_NAT"}] if caller.public_ipv4 else []
    first = {**cards[0], "accessConfigs": outside, "mac": _mac_address(spec.id)}
    instance: Tree = {
        "id": 0,
        "name": spec.id,
        "hostname": spec.hostname,
        "zone": f"projects/0/zones/{spec.region}-a",
        "tags": [],
        "serviceAccounts": {},
        **given,
        "attributes": attributes,
        "networkInterfaces": [first, *cards[1:]],
    }
    return {"instance": instance, "project": spec.metadata.get("project", {})}


def _walk(tree: Json, parts: list[str]) -> Json:
    """The node at a path, whose parts may be spelled as in paths (`service-accounts`) or as in JSON; None if
    none.
    """
    node = tree
    for part in parts:
        if isinstance(node, list):
            node = node[int(part)] if part.isdigit() and int(part) < len(node) else None
        elif isinstance(node, dict):
            node = node.get(part, node.get(_camel(part)))
        else:
            return None
        if node is None:
            return None
    return node() if callable(node) else node


def _is_folder(node: Json) -> bool:
    """Whether a node has nodes below it; a list of plain values has none."""
    return isinstance(node, dict) or (isinstance(node, list) and any(isinstance(item, dict) for item in node))


def _listing(tree: Json, parts: list[str], spell: Callable[[str], str]) -> Response:
    """A leaf's text, or a folder's names with a slash behind each folder."""
    node = _walk(tree, parts)
    if node is None:
        return Response(404, b"")
    if isinstance(node, list) and not _is_folder(node):
        # Both clouds answer a list of values, such as network tags, as JSON.
        return _json(node)
    if isinstance(node, list):
        return Response(200, "".join(f"{index}/\n" for index in range(len(node))).encode())
    if isinstance(node, dict):
        # The names of attributes and tags are the user's own.
        own = bool(parts) and parts[-1] in ("attributes", "instance", "service-accounts") and len(parts) > 1
        rows = [
            f"{name if own else spell(name)}{'/' if _is_folder(value) else ''}"
            for name, value in sorted(node.items())
        ]
        return Response(200, "\n".join(rows).encode())
    return Response(200, str(node).encode())


def _json(data: Json) -> Response:
    return Response(200, json.dumps(data).encode(), "application/json")


def _camel(name: str) -> str:
    return re.sub(r"-(\w)", lambda match: match[1].upper(), name)


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: f"-{match[1].lower()}", name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def _serve(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        if length:
            self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            response = self.server.service.answer(self.client_address[0], self.command, self.path, headers)
        except Exception as error:  # one server's bad luck must not end the service of all
            self.log_error("%s: %s: %s", self.path, type(error).__name__, error)
            response = Response(500, b"")
        self.send_response_only(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the names that http.server looks for

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: a healthy request is no news, and a token must not get into a log."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, service: MetadataService) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.service = service
