"""AWS in the sandbox's daemon: keeps moto's process, lets machines reach it over TLS, and gives them their role's keys.

Machines reach every service at `https://<service>.<region>.aws.test` (S3 buckets also at
`<bucket>.s3.<region>.aws.test`), one address, the sandbox's certificate; the plugins and the command line
reach moto on the loopback interface.
"""

import contextlib
import json
import logging
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from mailinfra.fleet import Cloud
from mailinfra.places import PLACES
from mailinfra.sandbox.aws.dlm import LifecyclePolicies
from mailinfra.sandbox.aws.moto_server import ACCOUNT, PORTS_FILE, PROCESS_FILE
from mailinfra.sandbox.aws.policy import statements
from mailinfra.sandbox.context import Context
from mailinfra.sandbox.model import MachineSpec
from mailinfra.sandbox.paths import Paths, SandboxError
from mailinfra.sandbox.processes import Process

ADDRESS = "192.0.2.21"
"""Where all of AWS answers inside the sandbox's network."""
DOMAIN = "aws.test"
CREDENTIAL_SECONDS = 3600
RESTART_SECONDS = 60.0
"""How long an AWS that ended may take to be there again, empty and without servers."""
_BUFFER = 65_536
_log = logging.getLogger(__name__)


def moto_endpoint(paths: Paths, caller: Literal["operators", "machines"] = "operators") -> str:
    """The URL of a sandbox's AWS on the loopback interface. Raises `SandboxError` when it does not run.

    Operators (plugins, the command line) may do everything; machines what their roles allow.
    """
    folder = paths.state / "aws"
    if Process.load(folder / PROCESS_FILE) is None:
        raise SandboxError("the sandbox's AWS does not run; start it by `mailinfra sandbox up`")
    return f"http://127.0.0.1:{json.loads((folder / PORTS_FILE).read_text())[caller]}"


def stop_moto(paths: Paths) -> None:
    """End a sandbox's AWS, and with it all that it holds. Also for a `down` that finds the daemon dead."""
    process = Process.load(paths.state / "aws" / PROCESS_FILE)
    if process is not None:
        process.send(signal.SIGTERM)
        if not process.wait(10):
            process.send(signal.SIGKILL)
            process.wait(10)
    (paths.state / "aws" / PROCESS_FILE).unlink(missing_ok=True)


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def start_moto(paths: Paths) -> bool:
    """Start a sandbox's AWS unless it runs already (a daemon that crashed leaves it running). Whether it was started:
    it is empty then.
    """
    folder = paths.folder("aws")
    if Process.load(folder / PROCESS_FILE) is not None:
        return False
    _spawn(folder)
    return True


def _spawn(folder: Path) -> None:
    with (folder / "moto.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mailinfra.sandbox.aws.moto_server", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            # Its own session: what ends the daemon does not end it.
            start_new_session=True,
        )
    if process.stdout is None:
        raise RuntimeError("a pipe was asked for")
    with process.stdout as output:
        line = output.readline()
    if not line.strip():
        process.wait()
        raise SandboxError(f"the sandbox's AWS does not start; see {folder / 'moto.log'}")


def certificate_names() -> list[str]:
    """The names that AWS's one address answers to."""
    regions = sorted(place.region for place in PLACES.values() if place.cloud is Cloud.AWS)
    names = [f"*.{region}.{DOMAIN}" for region in regions]
    buckets = [f"*.s3.{region}.{DOMAIN}" for region in regions]
    return [f"*.{DOMAIN}", *names, *buckets]


def _running(paths: Paths) -> str | None:
    """The URL of the AWS that runs now, if one does."""
    try:
        return moto_endpoint(paths)
    except SandboxError:
        return None


class TlsFront:
    """Takes TLS connections on a listening socket and passes their bytes on to a TCP port of the loopback interface."""

    def __init__(self, listener: socket.socket, tls: ssl.SSLContext, port: int) -> None:
        self._listener = listener
        self._tls = tls
        self.port = port
        self._thread = threading.Thread(target=self._accept, name="aws-front", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no more; connections that stand end by themselves."""
        # Wakes the thread in accept(2), which close alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(30)
            with self._tls.wrap_socket(connection, server_side=True) as client:
                client.settimeout(None)
                with socket.create_connection(("127.0.0.1", self.port), timeout=30) as upstream:
                    upstream.settimeout(None)
                    _pipe_both(client, upstream)
        except OSError:
            # The peer went away or does not speak TLS: its own business.
            connection.close()


def _pipe_both(client: ssl.SSLSocket, upstream: socket.socket) -> None:
    back = threading.Thread(target=_pipe, args=(upstream, client), daemon=True)
    back.start()
    _pipe(client, upstream)
    back.join()


def _pipe(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(_BUFFER):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Service:
    """The daemon's part `aws`."""

    name = "aws"

    def __init__(self) -> None:
        self._endpoint = ""
        self._paths: Paths | None = None
        self._stopping = threading.Event()
        self._front: TlsFront | None = None
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self._lifecycle: LifecyclePolicies | None = None

    def start(self, context: Context) -> None:
        """Start moto, and inside the sandbox's network its front."""
        self._paths = context.paths
        self._lifecycle = LifecyclePolicies(
            context.state("lifecycle-policies"), lambda region: self._client("ec2", region)
        )
        self._fill(context)
        context.metadata.aws_credentials = self.credentials
        if context.network is not None:
            context.network.add_service_address(ADDRESS)
            listener = context.network.listen(ADDRESS, 443)
            tls = context.authority.server_context(certificate_names())
            self._front = TlsFront(listener, tls, _port(moto_endpoint(context.paths, "machines")))
            self._front.start()
        threading.Thread(target=self._keep, args=(context,), name="aws-keep", daemon=True).start()
        context.call(
            "dns.set_hosts", name=f"*.{DOMAIN}", records=[{"type": "A", "ttl": 300, "values": [ADDRESS]}]
        )

    def stop(self) -> None:
        """Stop the front. moto stays, for the next daemon; `down` ends it with every process noted in a folder."""
        self._stopping.set()
        if self._front is not None:
            self._front.stop()
            self._front = None

    def _fill(self, context: Context) -> None:
        """Have moto run. One that is new knows of no server, so there may be none."""
        if start_moto(context.paths):
            self._policies.clear()
            if context.supervisor is not None:
                context.supervisor.delete_all("aws")
        self._endpoint = moto_endpoint(context.paths)

    def _keep(self, context: Context) -> None:
        """Start moto again should it end. What it held is lost: a refresh then drops it from the stack's state."""
        paths = context.paths
        while True:
            process = Process.load(paths.state / "aws" / PROCESS_FILE)
            if process is not None:
                process.wait(None)
            if self._stopping.is_set():
                return
            _log.error("moto ended, and with it all that AWS held here; starting it anew")
            try:
                self._fill(context)
            except SandboxError:
                _log.exception("moto does not start")
                return
            with self._lock:
                self._clients.clear()
            if self._front is not None:
                self._front.port = _port(moto_endpoint(paths, "machines"))

    def methods(self) -> dict[str, Callable[..., Any]]:
        """What the control socket offers."""
        return {
            "info": self.info,
            "put_lifecycle_policy": self.put_lifecycle_policy,
            "get_lifecycle_policy": self.get_lifecycle_policy,
            "delete_lifecycle_policy": self.delete_lifecycle_policy,
            "run_schedules": self.run_schedules,
        }

    @property
    def _policies(self) -> LifecyclePolicies:
        if self._lifecycle is None:
            raise RuntimeError("the service is not started")
        return self._lifecycle

    def put_lifecycle_policy(self, id: str, policy: dict[str, Any]) -> None:
        """Make or change a policy of Data Lifecycle Manager; see `dlm.LifecyclePolicies.put`."""
        self._policies.put(id, policy)

    def get_lifecycle_policy(self, id: str) -> dict[str, Any] | None:
        """A policy of Data Lifecycle Manager, or None."""
        return self._policies.get(id)

    def delete_lifecycle_policy(self, id: str) -> None:
        """Remove a policy of Data Lifecycle Manager."""
        self._policies.delete(id)

    def run_schedules(self, at: str) -> dict[str, list[str]]:
        """Do what Data Lifecycle Manager has to do at a time (RFC 3339)."""
        return self._policies.run(datetime.fromisoformat(at))

    def info(self) -> dict[str, Any]:
        """Where AWS answers: `endpoint` for the host, `address` for machines; the account number.

        Waits for one that is just being started anew. Raises `SandboxError` when that takes too long.
        """
        end = time.monotonic() + RESTART_SECONDS
        while self._paths is not None and self._endpoint != _running(self._paths):
            if time.monotonic() > end:
                raise SandboxError("the sandbox's AWS does not run; see aws/moto.log and cloud.log")
            time.sleep(0.1)
        return {"endpoint": self._endpoint, "account": ACCOUNT, "address": ADDRESS, "domain": DOMAIN}

    def credentials(self, spec: MachineSpec, role: str) -> dict[str, str]:
        """Temporary keys of a role for a machine, as the instance metadata service hands them out.

        Raises `SandboxError` if the role does not trust EC2.
        """
        name = role.rpartition("/")[2]
        found = self._client("iam", spec.region).get_role(RoleName=name)["Role"]
        if not trusts_ec2(found["AssumeRolePolicyDocument"]):
            raise SandboxError(f"role {name}: its trust policy does not let ec2.amazonaws.com assume it")
        answer = self._client("sts", spec.region).assume_role(
            RoleArn=found["Arn"], RoleSessionName=spec.id, DurationSeconds=CREDENTIAL_SECONDS
        )
        keys = answer["Credentials"]
        return {
            "AccessKeyId": keys["AccessKeyId"],
            "SecretAccessKey": keys["SecretAccessKey"],
            "Token": keys["SessionToken"],
            "Expiration": keys["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def _client(self, service: str, region: str) -> Any:
        with self._lock:
            if (service, region) not in self._clients:
                import boto3

                self._clients[service, region] = boto3.client(
                    service,
                    region_name=region,
                    endpoint_url=self._endpoint,
                    aws_access_key_id="sandbox",
                    aws_secret_access_key="sandbox",  # noqa: S106
                )
            return self._clients[service, region]


def trusts_ec2(document: Mapping[str, Any]) -> bool:
    """Whether a role's trust policy lets EC2 assume the role for its instances."""
    return trusts(document, "ec2.amazonaws.com")


def trusts(document: Mapping[str, Any], service: str) -> bool:
    """Whether a role's trust policy lets a service of AWS assume the role. Conditions are not looked at."""
    for statement in statements(document):
        services = (statement.get("Principal") or {}).get("Service", [])
        actions = statement.get("Action", [])
        if (
            statement.get("Effect") == "Allow"
            and service in ([services] if isinstance(services, str) else services)
            and "sts:AssumeRole" in ([actions] if isinstance(actions, str) else actions)
        ):
            return True
    return False
