"""MTA-STS policies (RFC 8461 3.2) where a program can put them: objects in buckets, workers' scripts, and the start-up
scripts of machines (plain, base64, gzip)."""

import base64
import binascii
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Finding
from mailinfra_policy.userdata import LIMIT
from mailinfra_policy.values import Value

WHERE: Mapping[str, tuple[str, ...]] = {
    "aws:s3/bucketObject:BucketObject": ("content", "contentBase64"),
    "aws:s3/bucketObjectv2:BucketObjectv2": ("content", "contentBase64"),
    "gcp:storage/bucketObject:BucketObject": ("content",),
    "cloudflare:index/workersScript:WorkersScript": ("content",),
    "aws:ec2/instance:Instance": ("userData", "userDataBase64"),
    "aws:ec2/launchTemplate:LaunchTemplate": ("userData",),
    "gcp:compute/instance:Instance": ("metadataStartupScript", "metadata.startup-script"),
    "gcp:compute/instanceTemplate:InstanceTemplate": ("metadataStartupScript", "metadata.startup-script"),
}
"""The types and inputs that may hold a policy. Files (`source`) are not part of a program's inputs: use `content`."""
_POLICY = re.compile(
    r"version:[ \t]*STSv1[ \t]*\r?\n(?:(?:mode|mx|max_age|[a-z_]+):[^\r\n]*(?:\r?\n|$))+", re.IGNORECASE
)
_WEEK = 604_800
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Policy:
    """A policy's text and where it stands."""

    resource: Resource
    path: str
    fields: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """The values of a field, in small letters."""
        return [value.lower() for key, value in self.fields if key == name]


def policies(resource: Resource) -> Iterator[Policy]:
    """Every policy text in a resource."""
    for path in WHERE[resource.type]:
        for text in texts(resource.get(path)):
            for match in _POLICY.finditer(text):
                fields = tuple(_field(line) for line in match[0].splitlines() if ":" in line)
                yield Policy(resource, path, fields)


def faults(policy: Policy) -> Iterator[Finding]:
    """What keeps a policy from making senders use TLS."""
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


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


def texts(value: Value) -> Iterator[str]:
    """A text, and what is packed in it by base64 and gzip."""
    if not isinstance(value, str):
        return
    yield value
    if re.fullmatch(r"[A-Za-z0-9+/=\s]{16,}", value):
        try:
            raw = base64.b64decode(value)
            if raw[:2] == _GZIP:
                raw = zlib.decompressobj(wbits=31).decompress(raw, LIMIT)
        except (binascii.Error, ValueError, zlib.error):
            return
        yield raw.decode("utf-8", "replace")


def holds(_resource: Resource, value: Value) -> bool:
    """For guards: whether a text holds a policy."""
    return any(_POLICY.search(text) for text in texts(value))


def testing(value: str) -> str:
    """The same text with a policy that only tests."""
    found = [*texts(value)]
    spoilt = found[-1].replace("mode: enforce", "mode: testing")
    return spoilt if len(found) == 1 else base64.b64encode(spoilt.encode()).decode()
