"""Instance metadata answers only to a session token (IMDSv2)."""

from collections.abc import Iterator

from mailinfra_policy.expect import one_of, within
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity

_OPTIONS = {
    "aws:ec2/instance:Instance": "metadataOptions",
    "aws:ec2/launchTemplate:LaunchTemplate": "metadataOptions",
    "aws:ec2/launchConfiguration:LaunchConfiguration": "metadataOptions",
}


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """Tokens are required, or the endpoint is off; an answer travels one hop."""
    options = _OPTIONS[resource.type]
    if resource.get(f"{options}.httpEndpoint") == "disabled":
        return
    yield from one_of(resource, f"{options}.httpTokens", ("required",))
    yield from within(resource, f"{options}.httpPutResponseHopLimit", 1, 1, "hop", default=1)


RULE = Rule(
    id="exposure-metadata-tokens",
    title="Instance metadata asks for a session token",
    severity=Severity.HIGH,
    why="With IMDSv1 a single forged request through any service on the node reads the node's cloud credentials.",
    mend="Set metadataOptions.httpTokens to `required` and the hop limit to 1.",
    controls=(
        Control(Framework.SOC2, "CC6.1"),
        Control(Framework.ISO27001, "A.8.9"),
        Control(Framework.GDPR, "Art. 32(1)(b)"),
    ),
    covers={
        token: (
            Guard(f"{options}.httpTokens", wrong=("optional", "Required")),
            Guard(f"{options}.httpPutResponseHopLimit", wrong=(2, 64), needed=False),
        )
        for token, options in _OPTIONS.items()
    },
    judge=judge,
)
