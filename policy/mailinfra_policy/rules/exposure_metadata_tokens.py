"""Instance metadata gives nothing away: a session token at AWS; no SSH keys and no serial console at Google.

Google's metadata service asks for a header on its own; there it is what the metadata says that opens a machine
(https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys).
"""

from collections.abc import Callable, Iterator

from mailinfra_policy.expect import absent, holds, one_of, within
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import Value

_OPTIONS = {
    "aws:ec2/instance:Instance": "metadataOptions",
    "aws:ec2/launchTemplate:LaunchTemplate": "metadataOptions",
    "aws:ec2/launchConfiguration:LaunchConfiguration": "metadataOptions",
}
_MACHINES = (
    "gcp:compute/instance:Instance",
    "gcp:compute/instanceTemplate:InstanceTemplate",
    "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate",
)
_INHERITING = (
    "gcp:compute/instanceFromTemplate:InstanceFromTemplate",
    "gcp:compute/instanceFromMachineImage:InstanceFromMachineImage",
)
"""Machines with the metadata of their template, unless they have their own, which takes the place of all of it."""
_PROJECT = "gcp:compute/projectMetadata:ProjectMetadata"
_ITEM = "gcp:compute/projectMetadataItem:ProjectMetadataItem"
_ON = ("TRUE", "true", "True")
_OFF = ("FALSE", "false", "False")
_NEEDED = ("enable-oslogin", "block-project-ssh-keys")
_SERIAL = "serial-port-enable"
_KEYS = "ssh-keys"
_LOGIN = "enable-oslogin"


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """Tokens are required, or the endpoint is off; an answer travels one hop; nobody logs in by metadata."""
    if resource.type in _OPTIONS:
        yield from _tokens(resource, _OPTIONS[resource.type])
    elif resource.type == _ITEM:
        yield from _item(resource)
    elif resource.type in _MACHINES or resource.get("metadata") is not None:
        for key in _NEEDED if resource.type != _PROJECT else ():
            yield from one_of(resource, f"metadata.{key}", _ON)
        yield from one_of(resource, f"metadata.{_SERIAL}", _OFF, default=_OFF[0])
        yield from absent(resource, f"metadata.{_KEYS}")
        if resource.type == _PROJECT:
            yield from one_of(resource, f"metadata.{_LOGIN}", _ON, default=_ON[0])


def _tokens(resource: Resource, options: str) -> Iterator[Finding]:
    if resource.get(f"{options}.httpEndpoint") == "disabled":
        return
    yield from one_of(resource, f"{options}.httpTokens", ("required",))
    yield from within(resource, f"{options}.httpPutResponseHopLimit", 1, 1, "hop", default=1)


def _item(resource: Resource) -> Iterator[Finding]:
    """One entry of the metadata of all machines of a project. A name that is not known may be any."""
    key = resource.get("key")
    if key == _LOGIN:
        yield from one_of(resource, "value", _ON)
    elif key == _SERIAL:
        yield from one_of(resource, "value", _OFF)
    else:
        yield from holds(resource, "key", lambda name: name != _KEYS, f"another key than `{_KEYS}`")


def _own(resource: Resource, _: Value) -> bool:
    return resource.get("metadata") is not None


def _called(key: str) -> Callable[[Resource, Value], bool]:
    return lambda resource, _: resource.get("key") == key


_ALL = (
    Guard(f"metadata.{_SERIAL}", wrong=("TRUE", "1", "off"), needed=False, when=_own),
    Guard(f"metadata.{_KEYS}", wrong=("root:ssh-ed25519 AAAA",), needed=False, when=_own),
)
_MACHINE = (*(Guard(f"metadata.{key}", wrong=("FALSE", "ture", "0"), when=_own) for key in _NEEDED), *_ALL)

RULE = Rule(
    id="exposure-metadata-tokens",
    title="Instance metadata asks for a session token, and lets nobody log in",
    severity=Severity.HIGH,
    why="With IMDSv1 a single forged request through any service on the node reads the node's cloud credentials; with "
    "SSH keys in Google's metadata whoever may write metadata is root.",
    mend="Set metadataOptions.httpTokens to `required` and the hop limit to 1; at Google set `enable-oslogin` and "
    "`block-project-ssh-keys` to TRUE, leave `serial-port-enable` off and `ssh-keys` out.",
    controls=(
        Control(Framework.SOC2, "CC6.1"),
        Control(Framework.ISO27001, "A.8.9"),
        Control(Framework.GDPR, "Art. 32(1)(b)"),
    ),
    covers={
        **{
            token: (
                Guard(f"{options}.httpTokens", wrong=("optional", "Required")),
                Guard(f"{options}.httpPutResponseHopLimit", wrong=(2, 64), needed=False),
            )
            for token, options in _OPTIONS.items()
        },
        **dict.fromkeys((*_MACHINES, *_INHERITING), _MACHINE),
        _PROJECT: (*_ALL, Guard(f"metadata.{_LOGIN}", wrong=("FALSE", "ture"), needed=False, when=_own)),
        _ITEM: (
            Guard("key", wrong=(_KEYS,), needed=False),
            Guard("value", wrong=("FALSE",), when=_called(_LOGIN)),
            Guard("value", wrong=("TRUE",), when=_called(_SERIAL)),
        ),
    },
    judge=judge,
)
