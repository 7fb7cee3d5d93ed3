"""The daemon's service `gcp`: Google Cloud on one machine, for the fleet's nodes and for those who provision it."""

import contextlib
import http.client
import logging
import re
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from mailinfra.places import place
from mailinfra.sandbox.aws.service import moto_endpoint
from mailinfra.sandbox.context import Context, Method
from mailinfra.sandbox.gcp import snapshots
from mailinfra.sandbox.gcp.api import HOSTS, GoogleApis
from mailinfra.sandbox.gcp.clouddns import ManagedZone, RecordSet
from mailinfra.sandbox.gcp.compute import Compute
from mailinfra.sandbox.gcp.http import Server, listen_on_loopback
from mailinfra.sandbox.gcp.store import Document
from mailinfra.sandbox.model import MachineSpec
from mailinfra.sandbox.network import NetworkError
from mailinfra.sandbox.paths import Paths, SandboxError
from mailinfra.sandbox.supervisor import NoSuchMachine, Supervisor

log = logging.getLogger(__name__)

ADDRESS: Final = "192.0.2.22"
"""Where the nodes find the APIs, port 443."""
DOMAIN: Final = "googleapis.test"
HOST_NAMES: Final = tuple(f"{host}.{DOMAIN}" for host in HOSTS)
TOKEN_PATH: Final = "operator.token"  # noqa: S105 - a file's name


class DnsNames:
    """What Compute Engine asks of the sandbox's DNS."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def set_ptr(self, address: str, name: str | None) -> None:
        """The reverse name of an address; None takes it away."""
        if name is None:
            self._context.call("dns.delete_ptr", address=address)
        else:
            self._context.call("dns.set_ptr", address=address, name=name)

    def set_location(self, network: str, region: str | None) -> None:
        """Where a network is; None forgets it."""
        if region is None:
            self._context.call("dns.set_location", network=network, country=None)
            return
        where = place(region)
        self._context.call(
            "dns.set_location",
            network=network,
            country=where.country,
            latitude=where.latitude,
            longitude=where.longitude,
        )

    def put_health_check(self, name: str, config: Document | None) -> None:
        """A health check by its link; None takes it away."""
        if config is None:
            self._context.call("dns.delete_health_check", provider="clouddns", id=name)
        else:
            self._context.call("dns.put_health_check", provider="clouddns", id=name, config=config)


class SupervisedMachines:
    """What Compute Engine asks of the supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def create(self, spec: MachineSpec) -> None:
        """Boots a server."""
        self._supervisor.create(spec)

    def update(self, spec: MachineSpec) -> None:
        """Changes a server in place; one that the supervisor has lost is made."""
        try:
            self._change(spec)
        except NoSuchMachine:
            self._supervisor.create(spec)

    def adjust(self, spec: MachineSpec) -> None:
        """Changes a server in place if it differs; one that is about to come or has just gone is left alone."""
        with contextlib.suppress(NoSuchMachine):
            if self._supervisor.spec(spec.id) != spec:
                self._change(spec)

    def _change(self, spec: MachineSpec) -> None:
        try:
            self._supervisor.update(spec)
        except NetworkError as error:
            # Before its boot and at its end a server is not on the network; the boot takes what is kept by now.
            if "on the network" not in str(error):
                raise

    def delete(self, machine: str) -> None:
        """Removes a server and its disk."""
        self._supervisor.delete(machine)

    def restart(self, machine: str) -> None:
        """Stops a server in order and starts it again."""
        self._supervisor.restart(machine)

    def delete_volume(self, volume: str) -> None:
        """Removes a disk that no server has."""
        self._supervisor.delete_volume(volume)

    def snapshot_volume(self, volume: str, snapshot: str, size: int) -> None:
        """Keeps what is on a disk."""
        self._supervisor.snapshot_volume(volume, snapshot, size)

    def restore_volume(self, volume: str, snapshot: str, size: int) -> None:
        """Makes a disk of what was kept."""
        self._supervisor.restore_volume(volume, snapshot, size)

    def delete_snapshot(self, snapshot: str) -> None:
        """Removes what was kept."""
        self._supervisor.delete_snapshot(snapshot)


class AwsSts:
    """The sandbox's AWS, as far as Google asks it: who signed this?"""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def __call__(self, method: str, path: str, headers: Mapping[str, str]) -> Mapping[str, str] | None:
        """See `federation.Aws`."""
        try:
            port = int(moto_endpoint(self._paths, "machines").rpartition(":")[2])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            with contextlib.closing(connection):
                connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
                for name, value in headers.items():
                    connection.putheader(name, value)
                connection.putheader("content-length", "0")
                connection.endheaders()
                answer = connection.getresponse()
                text = answer.read().decode(errors="replace")
        except (OSError, ValueError, SandboxError, http.client.HTTPException):
            log.debug("AWS gave no answer", exc_info=True)
            return None
        found = {name: re.search(f"<{name}>([^<]+)</{name}>", text) for name in ("Account", "Arn", "UserId")}
        if answer.status != 200 or any(match is None for match in found.values()):
            return None
        return {name.lower(): match[1] for name, match in found.items() if match}


class Service:
    """Cloud KMS, Cloud Storage, IAM, Compute Engine and Cloud DNS; see the modules beside this one."""

    name = "gcp"

    def __init__(self) -> None:
        self._servers: list[Server] = []
        self._apis: GoogleApis | None = None
        self._compute: Compute | None = None
        self._url = ""
        self._lock = threading.Lock()

    def start(self, context: Context) -> None:
        """Opens the stores and listens on loopback and, with machines, on 192.0.2.22:443."""
        apis = GoogleApis(context.paths.folder("gcp"), AwsSts(context.paths))
        self._apis = apis
        machines = SupervisedMachines(context.supervisor) if context.supervisor else None
        compute = Compute(apis.store, apis.identity, machines, DnsNames(context))
        for kind, handler in {**compute.kinds(), **snapshots.kinds(compute)}.items():
            apis.resources.add(kind, handler)
        apis.add(snapshots.SnapshotApi(compute, apis.resources))
        self._compute = compute

        def dns(method: str, **parameters: Any) -> Any:
            return context.call(f"dns.{method}", **parameters)

        apis.resources.add("managedZone", ManagedZone(apis.store, dns))
        apis.resources.add("recordSet", RecordSet(apis.store, dns))
        listener = listen_on_loopback()
        self._url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._servers.append(Server(listener, apis))
        if context.network is not None:
            context.network.add_service_address(ADDRESS)
            for host in HOST_NAMES:
                context.call(
                    "dns.set_hosts", name=host, records=[{"type": "A", "ttl": 300, "values": [ADDRESS]}]
                )
            tls = context.authority.server_context(HOST_NAMES)
            self._servers.append(Server(context.network.listen(ADDRESS, 443), apis, tls))
        context.metadata.gcp_token = self._token
        context.metadata.gcp_identity = self._identity
        for server in self._servers:
            server.start()

    def stop(self) -> None:
        """Stops listening and closes the stores."""
        for server in self._servers:
            server.stop()
        self._servers.clear()
        if self._apis is not None:
            self._apis.close()
            self._apis = None

    def methods(self) -> dict[str, Method]:
        """`gcp.endpoint`, `gcp.run_schedules`."""
        return {"endpoint": self.endpoint, "run_schedules": self.run_schedules}

    def run_schedules(self, at: str) -> dict[str, list[str]]:
        """Do what resource policies have to do at a time (RFC 3339)."""
        if self._apis is None or self._compute is None:
            raise RuntimeError("the service is not started")
        return snapshots.run(self._compute, self._apis.resources, datetime.fromisoformat(at))

    def endpoint(self) -> dict[str, str]:
        """Where the APIs listen on loopback (`url`), and the operator's `token`, which may do everything."""
        if self._apis is None:
            raise RuntimeError("the service is not started")
        return {"url": self._url, "token": self._apis.identity.operator_token}

    def _token(self, spec: MachineSpec, _scopes: Any = None) -> dict[str, Any]:
        return self._running().identity.issue(_account(spec))

    def _identity(self, spec: MachineSpec, audience: str, full: bool) -> str:
        apis, email = self._running(), _account(spec)
        claims = apis.identity.identity_claims(email, audience)
        if full:
            instance = spec.metadata.get("instance", {})
            project = spec.metadata.get("project", {})
            claims |= {
                "email": email,
                "email_verified": True,
                "google": {
                    "compute_engine": {
                        "instance_id": str(instance.get("id", 0)),
                        "instance_name": instance.get("name", spec.id),
                        "project_id": project.get("projectId", ""),
                        "project_number": project.get("numericProjectId", 0),
                        "zone": str(instance.get("zone", "")).rsplit("/", 1)[-1],
                    }
                },
            }
        return apis.issuer.sign(claims)

    def _running(self) -> GoogleApis:
        if self._apis is None:
            raise RuntimeError("the service is not started")
        return self._apis


def _account(spec: MachineSpec) -> str:
    accounts: Mapping[str, Any] = spec.metadata.get("instance", {}).get("serviceAccounts", {})
    if "default" not in accounts:
        raise LookupError(f"{spec.id} has no service account")
    email: str = accounts["default"]["email"]
    return email
