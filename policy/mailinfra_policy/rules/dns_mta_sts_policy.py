"""What an MTA-STS policy says (RFC 8461 3.2), wherever a program puts it: judged before a machine gets it."""

from collections.abc import Iterator

from mailinfra_policy.expect import unknown
from mailinfra_policy.mtasts import WHERE, faults, holds, policies, testing
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """Every policy text in the resource enforces TLS. What is not known yet may hold one."""
    for path in WHERE[resource.type]:
        if resource.get(path) is UNKNOWN and not _other_media(resource):
            yield unknown(resource, path, "an MTA-STS policy, if any, with mode: enforce")
    for policy in policies(resource):
        yield from faults(policy)


def _other_media(resource: Resource) -> bool:
    """Whether an object's media type says that it is no policy: senders take text/plain only (RFC 8461 3.2)."""
    kind = resource.get("contentType")
    return isinstance(kind, str) and kind.partition(";")[0].strip().lower() not in ("", "text/plain")


RULE = Rule(
    id="dns-mta-sts-policy",
    title="MTA-STS policies enforce TLS, for long enough",
    severity=Severity.HIGH,
    why="A policy that only tests, or that senders forget within days, does not keep mail from going in the clear.",
    mend="Serve a policy with `mode: enforce` and a max_age of a week at least.",
    controls=(
        Control(Framework.NIST, "chapter 5: MTA-STS"),
        Control(Framework.ISO27001, "A.5.14"),
        Control(Framework.SOC2, "CC6.7"),
        Control(Framework.GDPR, "Art. 32(1)(a)"),
    ),
    covers={
        token: tuple(Guard(path, wrong=(testing,), needed=False, when=holds) for path in paths)
        for token, paths in WHERE.items()
    },
    judge=judge,
)
