"""What is stored is encrypted with a key of the fleet's own."""

from collections.abc import Iterator
from typing import Any

from mailinfra_policy.encryption import AWS_KEYS, GCP_KEYS, KEYLESS, STORES, AtRest, names_own_key
from mailinfra_policy.expect import one_of, unknown
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, get, show

_ALLOWED = {
    "aws": "the id, ARN or alias of a customer-managed KMS key (not `alias/aws/…`)",
    "gcp": "the resource name of a Cloud KMS key",
}


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """Each store of the type names a key of its own, and what makes the cloud use it is set."""
    if resource.type in KEYLESS:
        yield Finding(
            resource,
            "",
            "a store under a key that only the provider holds",
            "a store that takes a key of one's own",
        )
    for store in STORES.get(resource.type, ()):
        yield from _store(resource, store, context)


def _store(resource: Resource, store: AtRest, context: Context) -> Iterator[Finding]:
    places = list(resource.each(store.at)) if store.at else [("", resource.props)]
    allowed = _ALLOWED[resource.cloud]
    if store.needed and not any(value is not None for _, value in places):
        yield Finding(resource, places[0][0] if places else store.at.split("[")[0], "nothing", allowed)
    for place, value in places:
        if value is UNKNOWN:
            yield unknown(resource, place, allowed)
        elif value is not None and not any(get(value, path) not in (None, "") for path in store.unless):
            yield from _at(resource, place, store, context)


def _at(resource: Resource, place: str, store: AtRest, context: Context) -> Iterator[Finding]:
    for path, values in (store.switches or {}).items():
        yield from one_of(resource, _below(place, path), values)
    given = [
        (concrete, value)
        for path in store.keys
        for concrete, value in resource.each(_below(place, path))
        if value not in (None, "")
    ]
    if not given and not store.inherits:
        path = store.keys[0] if len(store.keys) == 1 else store.keys[0].rpartition(".")[0]
        yield Finding(resource, _below(place, path), "nothing", _ALLOWED[resource.cloud])
    for concrete, value in given:
        yield from own_key(resource, concrete, value, context)


def own_key(resource: Resource, path: str, value: Any, context: Context) -> Iterator[Finding]:
    """The input at the path names a customer-managed key, or was made from one of this stack."""
    if isinstance(value, str) and names_own_key(resource.cloud, value):
        return
    keys = AWS_KEYS if resource.cloud == "aws" else GCP_KEYS
    if context.stack.referred(resource, path, *keys):
        return
    if value is UNKNOWN:
        yield unknown(resource, path, _ALLOWED[resource.cloud])
    else:
        yield Finding(resource, path, show(value), _ALLOWED[resource.cloud])


def _below(place: str, path: str) -> str:
    return f"{place}.{path}" if place else path


_WRONG = {
    "aws": ("alias/aws/ebs", "arn:aws:kms:eu-central-1:111122223333:alias/aws/s3", "AES256"),
    "gcp": ("google-managed", "projects/example-mail/locations/europe-west3/keyRings/mail"),
}


def _guards(token: str) -> tuple[Guard, ...]:
    guards: list[Guard] = []
    for store in STORES[token]:
        guards += [
            Guard(
                _below(store.at, path),
                wrong=_WRONG[token.split(":", maxsplit=1)[0]],
                needed=not store.inherits,
                when=_own(store),
            )
            for path in store.keys
        ]
        for path, values in (store.switches or {}).items():
            wrong = (
                (not values[0],)
                if isinstance(values[0], bool)
                else ("", f"{values[0]}X", values[0].swapcase())
            )
            guards.append(Guard(_below(store.at, path), wrong=wrong, when=_own(store)))
    return tuple(guards)


def _own(store: AtRest) -> Any:
    """A mutant of a store that is not its own, or of the alternative that is not used, changes nothing."""

    def when(resource: Resource, value: Any) -> bool:
        if store.at:
            return value is not None
        return not any(resource.get(path) for path in store.unless) and (
            value is not None or len(store.keys) == 1
        )

    return when


RULE = Rule(
    id="keys-customer-managed",
    title="What is stored is encrypted with a key of the fleet's own",
    severity=Severity.HIGH,
    why="Under a provider's own key nobody can say who decrypts, cut access off, or destroy data with its key.",
    mend="Give the store a customer-managed KMS key of its region and turn encryption with it on.",
    controls=(
        Control(Framework.GDPR, "Art. 32(1)(a)"),
        Control(Framework.SOC2, "CC6.1"),
        Control(Framework.ISO27001, "A.8.24"),
    ),
    covers={token: _guards(token) for token in STORES} | dict.fromkeys(sorted(KEYLESS), ()),
    judge=judge,
)
