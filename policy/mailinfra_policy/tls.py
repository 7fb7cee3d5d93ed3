"""What the TLS rules share: exact values by the lowest TLS version that they mean, and tables of what must be set.

Every list is exact: a value that is not in it is refused, whatever it looks like. Where a cloud's property offers no
value with a floor of 1.3, its link is one of the `services` (see `mailinfra_policy.config.Tls`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mailinfra_policy import expect
from mailinfra_policy.config import Tls, Version
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard
from mailinfra_policy.values import UNKNOWN, Value, show

TRANSPORT = (
    Control(Framework.GDPR, "Art. 32(1)(a)"),
    Control(Framework.SOC2, "CC6.7"),
    Control(Framework.ISO27001, "A.8.24"),
    Control(Framework.ISO27001, "A.5.14"),
)
"""The controls that encryption on the way serves."""
MAIL = (*TRANSPORT, Control(Framework.NIST, "chapter 5: TLS between mail servers"))
"""The same where mail is what travels."""


class Link(StrEnum):
    """The kinds of link, as in the config's `tls` section."""

    PUBLIC = "public"
    CLIENTS = "clients"
    INTERNET = "internet"
    FLEET = "fleet"
    SERVICES = "services"


@dataclass(frozen=True)
class Floors:
    """The values of a property by the lowest TLS version that they let in: 1.3 (`only13`) or 1.2 (`from12`)."""

    from12: tuple[str, ...]
    only13: tuple[str, ...] = ()

    def allowed(self, floor: Version) -> tuple[str, ...]:
        """What keeps a floor."""
        return self.only13 if floor == "1.3" else (*self.only13, *self.from12)


def floor(tls: Tls, link: Link) -> Version:
    """The floor of a kind of link."""
    found: Version = getattr(tls, link)
    return found


ELB = Floors(
    only13=(
        "ELBSecurityPolicy-TLS13-1-3-2021-06",
        "ELBSecurityPolicy-TLS13-1-3-FIPS-2023-04",
        "ELBSecurityPolicy-TLS13-1-3-PQ-2025-09",
        "ELBSecurityPolicy-TLS13-1-3-FIPS-PQ-2025-09",
    ),
    from12=(
        "ELBSecurityPolicy-TLS13-1-2-2021-06",
        "ELBSecurityPolicy-TLS13-1-2-Res-2021-06",
        "ELBSecurityPolicy-TLS13-1-2-FIPS-2023-04",
        "ELBSecurityPolicy-TLS13-1-2-Res-FIPS-2023-04",
        "ELBSecurityPolicy-TLS13-1-2-PQ-2025-09",
        "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09",
        "ELBSecurityPolicy-TLS13-1-2-FIPS-PQ-2025-09",
        "ELBSecurityPolicy-TLS13-1-2-Res-FIPS-PQ-2025-09",
        "ELBSecurityPolicy-FS-1-2-Res-2019-08",
        "ELBSecurityPolicy-FS-1-2-Res-2020-10",
    ),
)
"""Application and Network Load Balancers. Without the `Ext` ones, whose ciphers have no forward secrecy.
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html"""
CLASSIC_ELB = Floors(from12=("ELBSecurityPolicy-TLS-1-2-2017-01",))
"""Classic Load Balancers: none speaks TLS 1.3.
https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/elb-security-policy-table.html"""
CLOUDFRONT = Floors(only13=("TLSv1.3_2025",), from12=("TLSv1.2_2019", "TLSv1.2_2021", "TLSv1.2_2025"))
"""https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/secure-connections-supported-viewer-protocols-ciphers.html"""
API_GATEWAY = Floors(
    only13=(
        "SecurityPolicy_TLS13_1_3_2025_09",
        "SecurityPolicy_TLS13_1_3_FIPS_2025_09",
        "SecurityPolicy_TLS13_2025_EDGE",
    ),
    from12=(
        "SecurityPolicy_TLS13_1_2_2021_06",
        "SecurityPolicy_TLS13_1_2_PQ_2025_09",
        "SecurityPolicy_TLS13_1_2_PFS_PQ_2025_09",
        "SecurityPolicy_TLS13_1_2_FIPS_PQ_2025_09",
        "SecurityPolicy_TLS13_1_2_FIPS_PFS_PQ_2025_09",
        "SecurityPolicy_TLS12_PFS_2025_EDGE",
        "SecurityPolicy_TLS12_2018_EDGE",
        "TLS_1_2",
    ),
)
"""https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-security-policies-list.html"""
IOT = Floors(
    only13=("IoTSecurityPolicy_TLS13_1_3_2022_10",),
    from12=("IoTSecurityPolicy_TLS13_1_2_2022_10", "IoTSecurityPolicy_TLS12_1_2_2022_10"),
)
"""https://docs.aws.amazon.com/iot/latest/developerguide/transport-security.html"""
SEARCH = Floors(
    from12=(
        "Policy-Min-TLS-1-2-2019-07",
        "Policy-Min-TLS-1-2-PFS-2023-10",
        "Policy-Min-TLS-1-2-RFC9151-FIPS-2024-08",
        "Policy-Min-TLS-1-2-FIPS-PQ-2026-10",
    )
)
"""https://docs.aws.amazon.com/opensearch-service/latest/APIReference/API_DomainEndpointOptions.html"""
GCP_POLICY = Floors(only13=("TLS_1_3",), from12=("TLS_1_2",))
"""https://cloud.google.com/load-balancing/docs/ssl-policies-concepts"""
CLOUDFLARE = Floors(only13=("1.3",), from12=("1.2",))
"""https://developers.cloudflare.com/ssl/edge-certificates/additional-options/minimum-tls/"""


@dataclass(frozen=True)
class Must:
    """One property that has to have one of some values.

    `path` as in `Resource.each`; `values` are exact, or `Floors` of the `link`. `default` is what the cloud uses where
    nothing is given. `under`: only where something is there (`path` goes on from it). `when` says of which resources;
    it must say yes where it cannot tell. `wrong` are further values that the mutation run must see refused.
    """

    path: str
    values: tuple[Any, ...] | Floors
    link: Link = Link.PUBLIC
    default: Value = None
    under: str = ""
    when: Callable[[Resource], bool] | None = None
    wrong: tuple[Any, ...] = ()

    def allowed(self, tls: Tls) -> tuple[Any, ...]:
        """The values that may stand there."""
        return self.values.allowed(floor(tls, self.link)) if isinstance(self.values, Floors) else self.values

    @property
    def whole(self) -> str:
        """The path from the top."""
        return f"{self.under}.{self.path}" if self.under else self.path

    def judge(self, resource: Resource, tls: Tls) -> Iterator[Finding]:
        """What is wrong there."""
        if self.when and not self.when(resource):
            return
        allowed = self.allowed(tls)
        if not self.under:
            yield from one_of(resource, self.path, allowed, default=self.default)
            return
        for concrete, value in resource.each(self.under):
            if value is UNKNOWN:
                yield expect.unknown(resource, f"{concrete}.{self.path}", said(allowed))
            elif value is not None:
                yield from one_of(resource, f"{concrete}.{self.path}", allowed, default=self.default)

    @property
    def guard(self) -> Guard:
        """What the mutation run spoils."""
        allowed = self.allowed(Tls())
        wrong = [*self.wrong, *self._weaker(allowed)]
        when = self.when
        return Guard(
            self.whole,
            wrong=tuple(wrong),
            # An item less in a list is one less to be wrong.
            needed=self.default not in allowed and not self.path.endswith("[*]"),
            when=(lambda resource, value: when(resource)) if when else None,
        )

    def _weaker(self, allowed: Sequence[Any]) -> Iterator[Any]:
        if isinstance(self.values, Floors):
            yield from [value for value in self.values.from12 if value not in allowed][:1]
        first = allowed[0]
        if isinstance(first, bool):
            yield not first
        else:
            yield f"{first}x"
            yield from [other for other in (first.swapcase(),) if other not in allowed]


def said(allowed: Iterable[Any]) -> str:
    """Allowed values for a message."""
    return (
        " or ".join(show(item) for item in allowed)
        or "nothing of this type keeps the floor that is asked for"
    )


def one_of(
    resource: Resource, path: str, allowed: Sequence[Any], *, default: Value = None
) -> Iterator[Finding]:
    """`expect.one_of` that can say that there is no value to allow."""
    if allowed:
        yield from expect.one_of(resource, path, allowed, default=default)
        return
    for concrete, value in resource.each(path):
        if value is UNKNOWN:
            yield expect.unknown(resource, concrete, said(allowed))
        else:
            yield Finding(resource, concrete, show(value), said(allowed))


Table = Mapping[str, tuple[Must, ...]]


def judged_by(table: Table) -> Callable[[Resource, Context], Iterator[Finding]]:
    """The judge of a rule that is a table: every entry of the resource's type."""

    def judge(resource: Resource, context: Context) -> Iterator[Finding]:
        for must in table.get(resource.type, ()):
            yield from must.judge(resource, context.config.tls)

    return judge


def guarded(table: Table) -> dict[str, tuple[Guard, ...]]:
    """What a rule that is a table covers."""
    return {token: tuple(must.guard for must in musts) for token, musts in table.items()}
