"""One node's bootstrap: a bash script that makes a stock Debian 12 server the node that a `NodeSpec` describes.

It is the same for both clouds: user-data of an AWS instance, startup-script of a Google Cloud one.
"""

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mailinfra.fleet import Cloud, Residency, Role
from mailinfra.node.pack import software
from mailinfra.node.spec import NodeSpec

AWS_LIMIT = 16_384
"""What AWS takes as user-data, in bytes before base64."""
BOOTHOOK = "#cloud-boothook\n"
"""What makes cloud-init run user-data at every boot; scripts it runs at an instance's first one only.
https://cloudinit.readthedocs.io/en/22.4.2/topics/format.html#cloud-boothook"""
STATE = "/var/lib/mailinfra"
MILTER = "/run/mailinfra-milter/milter.sock"
UNITS = "/etc/systemd/system"
END = "END~"
"""Ends a file within the script; no file may have such a line."""

POSTFIX = frozenset({Role.MX, Role.SUBMISSION, Role.EGRESS, Role.MAILBOX})
DOVECOT = frozenset({Role.SUBMISSION, Role.IMAP, Role.POP3, Role.MAILBOX})


@dataclass(frozen=True)
class File:
    """A file of the node. `mode` is octal digits."""

    path: str
    text: str
    mode: str = "644"


@dataclass(frozen=True)
class Unit:
    """A unit that the bootstrap starts, and the files that it has to be restarted for."""

    name: str
    files: tuple[str, ...]


@cache
def _templates() -> Environment:
    loader = PackageLoader("mailinfra.node", "files")
    # Shell, Postfix and Dovecot, never HTML: what comes in was checked by the fleet's own patterns.
    environment = Environment(  # noqa: S701
        loader=loader,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["dirname"] = lambda path: str(PurePosixPath(path).parent)
    return environment


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def packages(spec: NodeSpec) -> tuple[str, ...]:
    """Debian's packages that the node needs."""
    roles = set(spec.roles)
    wanted = ["ca-certificates", "dns-root-data", "python3", "python3-cryptography", "unbound"]
    wanted += ["python3-boto3"] if spec.cloud is Cloud.AWS else []
    wanted += ["postfix", "postfix-cdb"] if roles & POSTFIX else []
    wanted += ["dovecot-core"] if roles & DOVECOT else []
    wanted += ["dovecot-imapd"] if roles & {Role.IMAP, Role.MAILBOX} else []
    wanted += ["dovecot-pop3d"] if roles & {Role.POP3, Role.MAILBOX} else []
    wanted += ["dovecot-lmtpd", "e2fsprogs", "util-linux"] if Role.MAILBOX in roles else []
    # The vault may be in the other cloud.
    wanted += ["restic", "python3-boto3"] if Role.MAILBOX in roles else []
    return tuple(sorted(set(wanted)))


def node_config(spec: NodeSpec) -> dict[str, Any]:
    """/etc/mailinfra/node.json: what `mailinfra.node.agent.node.load` reads."""
    return {
        "fleet": spec.fleet,
        "cloud": spec.cloud,
        "region": spec.region,
        "zone": spec.zone,
        "group": spec.group,
        "hostname": spec.hostname,
        "roles": list(spec.roles),
        "domains": list(spec.domains),
        "strict": spec.residency is Residency.STRICT,
        "bucket": spec.control_bucket,
        "ca_key": spec.ca_key,
        "names": [spec.hostname, *spec.service_names],
        "entitlements": {spec.group: list(spec.service_names)}
        | {k: list(v) for k, v in spec.entitlements.items()},
        "endpoints": {name: url for name, url in spec.endpoints.items() if url},
        "state": STATE,
    }


def milter_config(spec: NodeSpec) -> dict[str, Any]:
    """/etc/mailinfra/milter.json: what `mailinfra.dkim.milter` reads. Raises `ValueError` without a signing key."""
    if not spec.signing:
        raise ValueError(f"{spec.hostname} has the role submission, and no signing key")
    signer = {"kind": str(spec.cloud), "key": spec.signing.reference}
    if spec.cloud is Cloud.AWS:
        signer["region"] = spec.region
    if endpoint := spec.endpoints.get("kms"):
        signer["endpoint"] = endpoint
    key = {"selector": spec.signing.selector, "domains": list(spec.domains), "signer": signer}
    # Postfix has seen to it that the envelope sender is the user's own; the author has to be the same.
    return {"listen": f"unix:{MILTER}", "match_sender": True, "keys": [key]}


def _context(spec: NodeSpec) -> dict[str, Any]:
    roles, shipped = set(spec.roles), software()
    folder = f"/usr/local/lib/mailinfra/{PurePosixPath(shipped.key).stem}"
    units = ["postfix.service", "postfix@-.service"] if roles & POSTFIX else []
    units += ["dovecot.service"] if roles & DOVECOT else []
    units += ["mailinfra-sts.service"] if Role.MX in roles and spec.mta_sts_policy else []
    return asdict(spec) | {
        "endpoints": {"kms": "", "storage": ""} | spec.endpoints,
        "submission_host": f"smtp.{spec.zone}.{spec.domains[0]}",
        "state": STATE,
        "tls": f"{STATE}/tls",
        "lookups": f"{STATE}/directory/current",
        "milter": f"unix:{MILTER}",
        "packages": packages(spec),
        "software": folder,
        "software_key": shipped.key,
        "software_sha256": shipped.sha256,
        "units": units,
    }


def _files(spec: NodeSpec, context: dict[str, Any]) -> Iterator[tuple[File, str]]:
    """Every file, each with the unit that has to be restarted for it (or empty)."""
    roles = set(spec.roles)

    def made(path: str, template: str, unit: str = "", mode: str = "644") -> tuple[File, str]:
        return File(path, _templates().get_template(template).render(context), mode), unit

    def unit(name: str, template: str = "") -> tuple[File, str]:
        return made(f"{UNITS}/{name}", f"systemd/{template or name}", name)

    yield made(
        "/etc/systemd/journald.conf.d/mailinfra.conf", "systemd/journald.conf", "systemd-journald.service"
    )
    yield made("/etc/unbound/unbound.conf.d/mailinfra.conf", "unbound/mailinfra.conf", "unbound.service")
    yield File("/etc/mailinfra/node.json", _json(node_config(spec))), "mailinfra-agent.service"
    yield unit("mailinfra-agent.service", "mailinfra-agent.service.j2")
    yield made("/usr/local/sbin/mailinfra-reload", "reload.sh.j2", mode="755")
    yield made(f"{UNITS}/mailinfra-reload.service", "systemd/mailinfra-reload.service")
    yield unit("mailinfra-reload.path", "mailinfra-reload.path.j2")
    yield unit("mailinfra-reload.timer")
    if Role.MX in roles:
        yield unit("mailinfra-homeward.service", "mailinfra-homeward.service.j2")
        if spec.mta_sts_policy:
            policy = "\r\n".join(spec.mta_sts_policy.splitlines()) + "\r\n"
            yield File("/etc/mailinfra/mta-sts.txt", policy), "mailinfra-sts.service"
            yield unit("mailinfra-sts.service", "mailinfra-sts.service.j2")
    if Role.MAILBOX in roles:
        yield made(f"{UNITS}/mailinfra-backup.service", "systemd/mailinfra-backup.service.j2")
        yield unit("mailinfra-backup.timer")
        yield unit("mailinfra-restore.service", "mailinfra-restore.service.j2")
    if Role.SUBMISSION in roles:
        yield File("/etc/mailinfra/milter.json", _json(milter_config(spec))), "mailinfra-milter.service"
        yield unit("mailinfra-milter.service", "mailinfra-milter.service.j2")
    if Role.MAILBOX in roles:
        yield made("/etc/dovecot/mail.conf", "dovecot/mail.conf.j2", "dovecot.service")
        yield unit("mailinfra-replica.service", "mailinfra-replica.service.j2")
        yield unit("mailinfra-replicator.service", "mailinfra-replicator.service.j2")
    if roles & DOVECOT:
        yield made("/etc/dovecot/dovecot.conf", "dovecot/dovecot.conf.j2", "dovecot.service")
    if roles & POSTFIX:
        yield made("/etc/postfix/main.cf", "postfix/main.cf.j2", "postfix.service")
        yield made("/etc/postfix/master.cf", "postfix/master.cf.j2", "postfix.service")


def _bootstrap_units(cloud: Cloud) -> list[File]:
    """What has to be there for the bootstrap to be repeated: not part of it, for it may fail."""
    names = ["mailinfra-bootstrap.service"]
    names += ["mailinfra-startup.service", "mailinfra-startup.timer"] if cloud is Cloud.GCP else []
    return [File(f"{UNITS}/{name}", _templates().get_template(f"systemd/{name}").render()) for name in names]


def render(spec: NodeSpec) -> str:
    """The bootstrap script of a node: the same text for the same spec. Raises `ValueError` for an impossible spec."""
    environment, context = _templates(), _context(spec)
    context["hardening"] = environment.get_template("systemd/hardening.conf").render().rstrip()
    files = list(_files(spec, context))
    for file, _ in files:
        if END in file.text.splitlines():
            raise ValueError(f"{file.path}: a line may not be {END!r}")
    services: dict[str, list[str]] = {}
    for file, unit in files:
        if unit:
            services.setdefault(unit, []).append(file.path)
    if "mailinfra-homeward.service" in services:
        services["mailinfra-homeward.service"].append("/etc/mailinfra/node.json")
    waiting = ["postfix.service", "postfix@.service"] if set(spec.roles) & POSTFIX else []
    waiting += ["dovecot.service"] if set(spec.roles) & DOVECOT else []
    context |= {
        "bootstrap_units": _bootstrap_units(spec.cloud),
        "waits": environment.get_template("systemd/waits.conf.j2").render(context),
        "waiting": waiting,
        "fetch": environment.get_template("fetch.py.j2").render(context),
        "files": [file for file, _ in files],
        "services": [Unit(name, tuple(paths)) for name, paths in services.items()],
    }
    template = environment.get_template("bootstrap.sh.j2")
    unnamed = template.render(context, revision="")
    return template.render(context, revision=hashlib.sha256(unnamed.encode()).hexdigest()[:16])


def revision(data: bytes) -> str:
    """The revision of the script that is in user-data or a startup-script; empty for what is no script of ours.

    On a node, /run/mailinfra-revision says with which one its bootstrap was begun last.
    """
    script = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    found = re.search(rb"^revision=([0-9a-f]{16})$", script, re.MULTILINE)
    return found[1].decode() if found else ""


def compressed(script: str) -> bytes:
    """The script as AWS user-data: a boothook, in gzip (which cloud-init unpacks), the same bytes for the same script.

    Raises `ValueError` when it is larger than AWS allows.
    """
    data = gzip.compress((BOOTHOOK + script).encode(), 9, mtime=0)
    if len(data) > AWS_LIMIT:
        raise ValueError(
            f"the bootstrap has {len(data)} bytes compressed; AWS allows {AWS_LIMIT} of user-data"
        )
    return data
