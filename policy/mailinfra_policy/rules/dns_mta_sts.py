"""Senders must use TLS with a checked certificate (RFC 8461): the record, and the policy that it announces.

The policy is looked for where a program can put it: objects in buckets, workers' scripts, and the start-up scripts of
machines (plain, base64, gzip). A policy that is kept elsewhere cannot be judged and needs an exception.
"""

import base64
import binascii
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mailinfra_policy.maildns import MailDns, dns, lacking, name_of, tag_list, text_guards, undecided
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, Value, show

_PREFIX = "_mta-sts."
_ALLOWED = "one record `v=STSv1; id=…` of letters and digits (RFC 8461 3.1)"
_WHERE: Mapping[str, tuple[str, ...]] = {
    "aws:s3/bucketObject:BucketObject": ("content", "contentBase64", "source"),
    "aws:s3/bucketObjectv2:BucketObjectv2": ("content", "contentBase64", "source"),
    "gcp:storage/bucketObject:BucketObject": ("content", "source"),
    "cloudflare:index/workersScript:WorkersScript": ("content",),
    "aws:ec2/instance:Instance": ("userData", "userDataBase64"),
    "aws:ec2/launchTemplate:LaunchTemplate": ("userData",),
    "gcp:compute/instance:Instance": ("metadataStartupScript", "metadata.startup-script"),
    "gcp:compute/instanceTemplate:InstanceTemplate": ("metadataStartupScript", "metadata.startup-script"),
}
_POLICY = re.compile(
    r"version:[ \t]*STSv1[ \t]*\r?\n(?:(?:mode|mx|max_age|[a-z_]+):[^\r\n]*(?:\r?\n|$))+", re.IGNORECASE
)
_WEEK = 604_800


@dataclass(frozen=True)
class Policy:
    """A policy's text and where it stands."""

    resource: Resource
    path: str
    fields: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """The values of a field, in small letters."""
        return [value.lower() for key, value in self.fields if key == name]


def judge_stack(context: Context) -> Iterator[Finding]:
    """Every mail domain has a record, a host that serves the policy, and policies that enforce."""
    zones = dns(context)
    policies, hidden = _policies(context.stack)
    for domain, sets in zones.domains.items():
        answers = zones.answers(f"{_PREFIX}{domain}", "TXT")
        ours = [found for found in answers if found[1].value is UNKNOWN or _is_sts(found[1].value)]
        if not ours:
            yield from lacking(sets, f"no MTA-STS record at {_PREFIX}{domain}", _ALLOWED)
        host = f"mta-sts.{domain}"
        if not any(zones.of(host, kind) for kind in ("A", "AAAA", "CNAME")):
            yield from lacking(sets, f"no host {host}", f"{host}, which serves the policy")
        yield from _served(domain, zones, policies, hidden)
    for item in zones.sets:
        if item.kind != "TXT" or not (item.owner is UNKNOWN or item.owner.startswith(_PREFIX)):
            continue
        for number, answer in enumerate(item.answers):
            if answer.value is UNKNOWN and item.owner is not UNKNOWN:
                yield undecided(item, answer, _ALLOWED)
            elif isinstance(answer.value, str) and _is_sts(answer.value):
                tags = tag_list(answer.value)
                if number or not tags or not re.fullmatch("[A-Za-z0-9]{1,32}", tags.get("id", "")):
                    yield Finding(item.resource, answer.path, show(answer.value), _ALLOWED)
    for policy in policies if zones.domains else ():
        yield from _faults(policy)


def _is_sts(value: str) -> bool:
    return re.match(r"v=STSv1\b", value) is not None


def _served(domain: str, zones: MailDns, policies: list[Policy], hidden: list[str]) -> Iterator[Finding]:
    """Some policy of the stack names all MX hosts of the domain."""
    hosts = {host for _, host, *_ in zones.exchanges(domain) if isinstance(host, str)}
    if any(all(_matches(host, policy.all("mx")) for host in hosts) for policy in policies):
        return
    allowed = "a policy in the stack that enforces TLS for all MX hosts of the domain"
    resource = zones.domains[domain][0].resource
    if policies:
        for policy in policies:
            yield Finding(policy.resource, policy.path, f"mx: {', '.join(policy.all('mx'))}", allowed)
    else:
        yield Finding(
            resource, "", f"no policy text for {domain} in the stack", allowed, unknown=bool(hidden)
        )


def _matches(host: str, patterns: list[str]) -> bool:
    _, _, above = host.partition(".")
    return any(
        name_of(pattern) == host or (pattern.startswith("*.") and name_of(pattern[2:]) == above)
        for pattern in patterns
    )


def _faults(policy: Policy) -> Iterator[Finding]:
    if policy.all("mode") != ["enforce"]:
        yield Finding(policy.resource, policy.path, f"mode: {', '.join(policy.all('mode'))}", "mode: enforce")
    age = policy.all("max_age")
    if len(age) != 1 or not age[0].isdigit() or not _WEEK <= int(age[0]) <= 31_557_600:
        yield Finding(
            policy.resource,
            policy.path,
            f"max_age: {', '.join(age)}",
            "max_age: a week to a year, in seconds",
        )


def _policies(stack: Stack) -> tuple[list[Policy], list[str]]:
    """Every policy text of the stack, and the places that are not known yet and may hold one."""
    found, hidden = [], []
    for resource in stack.of(*_WHERE):
        for path in _WHERE[resource.type]:
            value = resource.get(path)
            if value is UNKNOWN:
                hidden.append(f"{resource.type}::{resource.name}")
            for text in _texts(value):
                for match in _POLICY.finditer(text):
                    fields = tuple(_field(line) for line in match[0].splitlines() if ":" in line)
                    found.append(Policy(resource, path, fields))
    return found, hidden


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


def _texts(value: Value) -> Iterator[str]:
    """A text, and what is packed in it by base64 and gzip."""
    if not isinstance(value, str):
        return
    yield value
    if re.fullmatch(r"[A-Za-z0-9+/=\s]{16,}", value):
        try:
            raw = base64.b64decode(value)
            raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        except (binascii.Error, ValueError, OSError, EOFError, zlib.error):
            return
        yield raw.decode("utf-8", "replace")


def _holds(_resource: Resource, value: Value) -> bool:
    return any(_POLICY.search(text) for text in _texts(value))


def _testing(value: str) -> str:
    """The same text with a policy that only tests."""
    texts = [*_texts(value)]
    spoilt = texts[-1].replace("mode: enforce", "mode: testing")
    return spoilt if len(texts) == 1 else base64.b64encode(spoilt.encode()).decode()


_COVERS = {
    token: tuple(
        Guard(path, wrong=(_testing,), needed=False, opaque=True, when=_holds)
        for path in paths
        if path != "source"
    )
    for token, paths in _WHERE.items()
}

RULE = Rule(
    id="dns-mta-sts",
    title="MTA-STS makes senders use TLS with a checked certificate",
    severity=Severity.HIGH,
    why="Without an enforced policy whoever sits on the line strips STARTTLS, and the mail travels readable.",
    mend="Publish `v=STSv1; id=…` at _mta-sts.<domain> and serve a policy with `mode: enforce` and all MX hosts at "
    "https://mta-sts.<domain>/.well-known/mta-sts.txt.",
    controls=(
        Control(Framework.NIST, "5.2.5"),
        Control(Framework.ISO27001, "A.5.14"),
        Control(Framework.SOC2, "CC6.7"),
        Control(Framework.GDPR, "Art. 32(1)(a)"),
    ),
    covers={**text_guards("v=STSv1", "v=STSv1;", "v=STSv1; id=not-a-word"), **_COVERS},
    judge_stack=judge_stack,
)
