"""Stacks for the tests of the policy rules."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from mailinfra_policy import config
from mailinfra_policy.config import Config
from mailinfra_policy.judge import Judge, Judged
from mailinfra_policy.resource import Provider, Resource, Stack
from mailinfra_policy.rule import Rule
from mailinfra_policy.rules import ids
from mailinfra_policy.values import plain

TODAY = date(2026, 11, 23)
ZONES = {"eu": {"countries": ["DE", "BE", "IE", "NL"]}, "us": {"countries": ["US"]}}
EU_TAGS = {"residency-zone": "eu", "managed-by": "platform", "data-class": "mail"}
AWS = Provider("pulumi:providers:aws", {"region": "eu-central-1"})
GCP = Provider("pulumi:providers:gcp", {"project": "example-mail", "region": "europe-west3"})
CLOUDFLARE = Provider("pulumi:providers:cloudflare")
PROVIDERS = {"aws": AWS, "gcp": GCP, "cloudflare": CLOUDFLARE}


def resource(
    token: str, name: str = "it", props: Mapping[str, Any] | None = None, /, **more: Any
) -> Resource:
    """A resource of a type: `props` are its inputs (camelCase), `more` the other fields of `Resource`.

    The provider is the usual one of its cloud, in Frankfurt; its id is `<name>-id` and its ARN-like identities are
    what `outputs` says.
    """
    fields: dict[str, Any] = {"id": f"{name}-id", "provider": PROVIDERS.get(token.split(":", maxsplit=1)[0])}
    return Resource(
        urn=f"urn:pulumi:test::mail::{token}::{name}",
        type=token,
        name=name,
        props=plain(props or {}),
        **{**fields, **more},
    )


def changed(of: Resource, **props: Any) -> Resource:
    """The resource with some inputs changed; None takes one away."""
    merged = {key: value for key, value in {**of.props, **props}.items() if value is not None}
    return replace(of, props=merged)


def settings(**more: Any) -> Config:
    """The pack's config with the tests' zones."""
    return config.load({"zones": ZONES, **more}, ids())


def found(rule: Rule, stack: Stack | Sequence[Resource], conf: Config | None = None) -> list[Judged]:
    """What one rule says of a stack."""
    whole = stack if isinstance(stack, Stack) else Stack(stack)
    return list(Judge([rule], conf or settings(), TODAY).verdict(whole).findings)


def places(
    rule: Rule, stack: Stack | Sequence[Resource], conf: Config | None = None
) -> list[tuple[str, str]]:
    """Where one rule finds something: (name, path) of each finding, sorted."""
    return sorted(
        (item.finding.resource.name if item.finding.resource else "", item.finding.path)
        for item in found(rule, stack, conf)
    )
