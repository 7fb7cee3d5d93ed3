"""What a rule is. Each file of `mailinfra_policy.rules` defines one, as `RULE`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mailinfra_policy.config import Config
from mailinfra_policy.resource import Resource, Stack


class Severity(StrEnum):
    """How bad a violation is (the four of SARIF consumers and of Pulumi)."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Framework(StrEnum):
    """Whose control a rule serves."""

    GDPR = "GDPR"
    SOC2 = "SOC 2"
    ISO27001 = "ISO/IEC 27001:2022"
    NIST = "NIST SP 800-177r1"


@dataclass(frozen=True, order=True)
class Control:
    """One control: `Control(Framework.ISO27001, "A.8.24")`, `Control(Framework.GDPR, "Art. 32(1)(a)")`."""

    framework: Framework
    reference: str

    def __str__(self) -> str:
        return f"{self.framework} {self.reference}"


@dataclass(frozen=True)
class Context:
    """What a rule may look at besides the resource: the stack (so far) and the pack's config."""

    stack: Stack
    config: Config


@dataclass(frozen=True)
class Finding:
    """What a rule says against a resource.

    `path` is the input's concrete path (`ingress[2].cidrBlocks`), empty for the resource as a whole; `resource` is
    None where it is the stack as a whole. `unknown`: the value is not known yet, so the rule could not decide; it
    counts against the resource until it is known. `pending`: what is missing is only where a reference leads, which the
    finished stack tells.
    """

    resource: Resource | None
    path: str
    found: str
    allowed: str
    unknown: bool = False
    pending: bool = False


@dataclass(frozen=True)
class Guard:
    """A property that a rule watches, and how the mutation run spoils it.

    `path` as in `values.each`, empty for the resource's very existence; `wrong` are values that must be refused, each a
    value or a function from the present value to a wrong one; `needed`: it must be refused when it is missing too.
    `opaque`: it may be unknown (the rule looks only at whether it is there). `when` says of which resources, by the
    resource and the value at the path (None for the existence), where the rule looks only at some of a type; `where`
    says it by the rest of the stack.
    `provider`: where the resource leaves the input to its provider, the provider's setting of this name is spoilt
    instead. `elsewhere`: the finding names another property of the resource, the one that does not go with this one.
    """

    path: str
    wrong: tuple[Any, ...] = ()
    needed: bool = True
    opaque: bool = False
    when: Callable[[Resource, Any], bool] | None = None
    where: Callable[[Resource, Stack], bool] | None = None
    provider: str = ""
    elsewhere: bool = False


ANY = "*"
"""In `Rule.covers`, every type there is; as a `Guard.path` below it, every text in the inputs."""

PROTECT = "(protect)"
"""As a `Guard.path`, Pulumi's own option that keeps a resource from being deleted."""

ResourceJudge = Callable[[Resource, Context], Iterable[Finding]]
StackJudge = Callable[[Context], Iterable[Finding]]


@dataclass(frozen=True)
class Rule:
    """One rule.

    `id` in kebab-case, unique; `covers` maps each type that it judges to what it guards there. `judge` is called for
    every resource of a covered type and decided before that resource is made; `judge_stack` is called once with all of
    them. A rule has one, or both where a text is judged before it takes effect, and the whole for whether it is there.
    """

    id: str
    title: str
    severity: Severity
    why: str
    mend: str
    controls: tuple[Control, ...]
    covers: Mapping[str, tuple[Guard, ...]] = field(repr=False)
    judge: ResourceJudge | None = None
    judge_stack: StackJudge | None = None

    def __post_init__(self) -> None:
        if self.judge is None and self.judge_stack is None:
            raise TypeError(f"rule {self.id} needs judge or judge_stack")
        if not self.controls or not self.covers:
            raise TypeError(f"rule {self.id} names no control or covers no type")
