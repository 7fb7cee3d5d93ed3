"""The price table of `mailinfra cost`: list prices on demand, in USD, as of `AS_OF`; months of 730 hours.

No discount is in it (free tiers, volume tiers, sustained or committed use, savings plans), and no tax. Each SKU names
the provider's page to ask, how old its numbers are (`Sku.read`) and how they came here (`Origin`):

- `published`. Google's persistent disks, snapshots, Cloud Storage per GiB and traffic to the internet (the first
  tier; Tokyo's second): the billing catalogue of March 2025, as the Google Cloud Pricing Cost Calculator publishes it.
  Machines of both clouds: the price lists of March 2025 in Apache Libcloud 3.9.1 (`libcloud/data/pricing.json`); of
  EC2 the price of shared tenancy on which a family's sizes agree, of Compute Engine the cores and memory that a type
  is put together from. Route 53 and Cloud DNS (September 2026), Cloud KMS (March 2025), Cloud Logging (2021),
  CloudTrail's data events and AWS KMS per key (both undated): stored copies of the providers' pages.
- `quoted`: what other people's public code says that the price list says. EBS gp3 (ap-northeast-1 and ap-southeast-1
  are from memory) and snapshots, S3 per GiB, traffic from AWS to the internet (eu-central-1, eu-north-1 and us-east-2
  are from memory), public IPv4 addresses at AWS, requests to AWS KMS.
- `memory`: what the authors remember of the page, so the first to check. Requests to S3 and Cloud Storage, traffic
  between regions of a cloud, the metrics of detailed monitoring, the delivery of flow logs, Google's external
  addresses, and that a zone at Cloudflare is free.

A region that a SKU has no price for has none: an estimate names it and is then incomplete. `load` puts prices of your
own over the table: for other regions, or negotiated ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mailinfra.errors import ConfigError, Problem

AS_OF = date(2026, 11, 23)
"""The day on which the table was put together; a SKU's own numbers may be older (`Sku.read`)."""
HOURS = 730
"""Hours in a month, as both clouds' calculators count."""
DAYS = Decimal(HOURS) / 24
"""Days in a month."""
EVERYWHERE = "*"
"""In place of a region: the same price in every region."""


class Origin(StrEnum):
    """Where a number comes from: `published` is a copy of the provider's own page or price list, `quoted` what others
    say of it, `memory` what the table's authors remember of it, `own` the user's."""

    PUBLISHED = "published"
    QUOTED = "quoted"
    MEMORY = "memory"
    OWN = "own"


@dataclass(frozen=True)
class Sku:
    """One thing that is charged for: its `unit`, and USD for one unit by region (or `EVERYWHERE`).

    `page` is the provider's page to ask, `read` the day on which the numbers stood there, None where nobody said.
    """

    name: str
    unit: str
    page: str
    origin: Origin
    read: date | None
    usd: Mapping[str, Decimal]

    def at(self, region: str) -> Decimal | None:
        """USD for one unit in a region; None where no price is known."""
        return self.usd.get(region, self.usd.get(EVERYWHERE))


Prices = Mapping[str, Sku]

EC2 = "https://aws.amazon.com/ec2/pricing/on-demand/"
EBS = "https://aws.amazon.com/ebs/pricing/"
S3 = "https://aws.amazon.com/s3/pricing/"
VPC = "https://aws.amazon.com/vpc/pricing/"
CLOUDWATCH = "https://aws.amazon.com/cloudwatch/pricing/"
CLOUDTRAIL = "https://aws.amazon.com/cloudtrail/pricing/"
AWS_KMS = "https://aws.amazon.com/kms/pricing/"
ROUTE53 = "https://aws.amazon.com/route53/pricing/"
COMPUTE = "https://cloud.google.com/compute/vm-instance-pricing"
DISKS = "https://cloud.google.com/compute/disks-image-pricing"
GCS = "https://cloud.google.com/storage/pricing"
CLOUD_KMS = "https://cloud.google.com/kms/pricing"
CLOUD_DNS = "https://cloud.google.com/dns/pricing"
CLOUD_LOGGING = "https://cloud.google.com/stackdriver/pricing"
GCP_NETWORK = "https://cloud.google.com/vpc/network-pricing"
CLOUDFLARE = "https://www.cloudflare.com/plans/"

# t3.small is two t3.micro, t3.medium four; m6i.xlarge is two m6i.large.
_AWS = """
region         t3.micro t3.small t3.medium m6i.large m6i.xlarge gp3    snapshot s3     s3.put s3.get  internet regions
us-east-1      0.0104   0.0208   0.0416    0.096     0.192      0.08   0.05     0.023  0.005  0.0004  0.09     0.02
us-east-2      0.0104   0.0208   0.0416    0.096     0.192      0.08   0.05     0.023  0.005  0.0004  0.09     0.02
us-west-2      0.0104   0.0208   0.0416    0.096     0.192      0.08   0.05     0.023  0.005  0.0004  0.09     0.02
eu-central-1   0.0120   0.0240   0.0480    0.115     0.230      0.0952 0.054    0.0245 0.0054 0.00043 0.09     0.02
eu-west-1      0.0114   0.0228   0.0456    0.107     0.214      0.088  0.05     0.023  0.005  0.0004  0.09     0.02
eu-north-1     0.0108   0.0216   0.0432    0.102     0.204      0.0836 0.0475   0.023  0.005  0.0004  0.09     0.02
ap-northeast-1 0.0136   0.0272   0.0544    0.124     0.248      0.096  0.05     0.025  0.0047 0.00037 0.114    0.09
ap-southeast-1 0.0132   0.0264   0.0528    0.120     0.240      0.096  0.05     0.025  0.005  0.0004  0.12     0.09
ap-southeast-2 0.0132   0.0264   0.0528    0.120     0.240      0.096  0.055    0.025  0.0055 0.00044 0.114    0.098
"""

_GCP = """
region               e2.core    e2.ram     n2.core  n2.ram   pd-balanced snapshot storage internet regions
us-central1          0.02181159 0.00292353 0.031611 0.004237 0.10        0.05     0.020   0.12     0.02
us-east4             0.02456745 0.00329199 0.035605 0.004771 0.11        0.05     0.023   0.12     0.02
us-east5             -          -          -        -        0.10        -        0.020   0.12     0.02
europe-west1         0.02399337 0.00321609 0.034773 0.004661 0.10        0.05     0.020   0.12     0.02
europe-west2         0.0281037  0.00376602 0.04073  0.005458 0.12        0.057    0.023   0.12     0.02
europe-west3         0.0281037  0.00376602 0.04073  0.005458 0.12        0.059    0.023   0.12     0.02
europe-west4         0.02401338 0.00321816 0.034802 0.004664 0.11        0.053    0.020   0.12     0.02
europe-north1        0.02401614 0.00321816 0.034806 0.004664 0.11        0.055    0.020   0.12     0.02
europe-north2        -          -          -        -        0.10        0.05     0.023   0.12     0.02
asia-northeast1      0.02802642 0.00373911 0.040618 0.005419 0.13        0.064    0.023   0.12     0.08
asia-southeast1      0.02690931 0.00360594 0.038999 0.005226 0.11        0.061    0.020   0.12     0.08
australia-southeast1 0.03095064 0.00414759 0.044856 0.006011 0.135       0.062    0.023   0.19     0.10
"""

_MACHINES: Mapping[str, tuple[str, str, str]] = {
    "e2-micro": ("e2", "0.25", "1"),
    "e2-small": ("e2", "0.5", "2"),
    "e2-medium": ("e2", "1", "4"),
    "n2-standard-2": ("n2", "2", "8"),
    "n2-standard-4": ("n2", "4", "16"),
}
"""Google's machine types: family, cores that are charged for, GiB of memory."""

_LIBCLOUD, _CATALOGUE = date(2025, 3, 2), date(2025, 3, 6)
_DNS_PAGES, _KMS_PAGE = date(2026, 9, 20), date(2025, 3, 17)
_GIB, _HOUR, _TRAFFIC = "GiB-month", "hour", "GiB"
_THOUSAND, _TEN_THOUSAND, _MILLION = "1,000 requests", "10,000 requests", "million queries"
_Kind = tuple[str, str, Origin, date | None]

# SKU: unit, page, origin, when it was read.
_KINDS: Mapping[str, _Kind] = {
    "aws.t3.micro": (_HOUR, EC2, Origin.PUBLISHED, _LIBCLOUD),
    "aws.t3.small": (_HOUR, EC2, Origin.PUBLISHED, _LIBCLOUD),
    "aws.t3.medium": (_HOUR, EC2, Origin.PUBLISHED, _LIBCLOUD),
    "aws.m6i.large": (_HOUR, EC2, Origin.PUBLISHED, _LIBCLOUD),
    "aws.m6i.xlarge": (_HOUR, EC2, Origin.PUBLISHED, _LIBCLOUD),
    "aws.gp3": (_GIB, EBS, Origin.QUOTED, None),
    "aws.snapshot": (_GIB, EBS, Origin.QUOTED, None),
    "aws.s3": (_GIB, S3, Origin.QUOTED, date(2026, 7, 1)),
    "aws.s3.put": (_THOUSAND, S3, Origin.MEMORY, None),
    "aws.s3.get": (_THOUSAND, S3, Origin.MEMORY, None),
    "aws.internet": (_TRAFFIC, EC2, Origin.QUOTED, date(2026, 7, 4)),
    "aws.regions": (_TRAFFIC, EC2, Origin.MEMORY, None),
    "gcp.e2": (_HOUR, COMPUTE, Origin.PUBLISHED, _LIBCLOUD),
    "gcp.n2": (_HOUR, COMPUTE, Origin.PUBLISHED, _LIBCLOUD),
    "gcp.pd-balanced": (_GIB, DISKS, Origin.PUBLISHED, _CATALOGUE),
    "gcp.snapshot": (_GIB, DISKS, Origin.PUBLISHED, _CATALOGUE),
    "gcp.storage": (_GIB, GCS, Origin.PUBLISHED, _CATALOGUE),
    "gcp.internet": (_TRAFFIC, GCP_NETWORK, Origin.PUBLISHED, _CATALOGUE),
    "gcp.regions": (_TRAFFIC, GCP_NETWORK, Origin.MEMORY, None),
}

# What costs the same everywhere. A fast health check is a basic one with one optional feature.
_FLAT: Mapping[str, tuple[str, _Kind]] = {
    "aws.ipv4": ("0.005", (_HOUR, VPC, Origin.QUOTED, None)),
    "aws.metric": ("0.30", ("metric-month", CLOUDWATCH, Origin.MEMORY, None)),
    "aws.flow-logs": ("0.25", (_TRAFFIC, CLOUDWATCH, Origin.MEMORY, None)),
    "aws.data-event": ("0.10", ("100,000 events", CLOUDTRAIL, Origin.PUBLISHED, None)),
    "aws.kms.key": ("1.00", ("key-month", AWS_KMS, Origin.PUBLISHED, None)),
    "aws.kms.rsa-2048": ("0.03", (_TEN_THOUSAND, AWS_KMS, Origin.QUOTED, None)),
    "aws.kms.asymmetric": ("0.15", (_TEN_THOUSAND, AWS_KMS, Origin.QUOTED, None)),
    "route53.zone": ("0.50", ("zone-month", ROUTE53, Origin.PUBLISHED, _DNS_PAGES)),
    "route53.queries.weighted": ("0.40", (_MILLION, ROUTE53, Origin.PUBLISHED, _DNS_PAGES)),
    "route53.queries.latency": ("0.60", (_MILLION, ROUTE53, Origin.PUBLISHED, _DNS_PAGES)),
    "route53.queries.geo": ("0.70", (_MILLION, ROUTE53, Origin.PUBLISHED, _DNS_PAGES)),
    "route53.check.aws": ("0.50", ("check-month", ROUTE53, Origin.PUBLISHED, _DNS_PAGES)),
    "route53.check.other": ("0.75", ("check-month", ROUTE53, Origin.PUBLISHED, _DNS_PAGES)),
    "route53.fast-check.aws": ("1.50", ("check-month", ROUTE53, Origin.PUBLISHED, _DNS_PAGES)),
    "route53.fast-check.other": ("2.75", ("check-month", ROUTE53, Origin.PUBLISHED, _DNS_PAGES)),
    "clouddns.zone": ("0.20", ("zone-month", CLOUD_DNS, Origin.PUBLISHED, _DNS_PAGES)),
    "clouddns.queries": ("0.40", (_MILLION, CLOUD_DNS, Origin.PUBLISHED, _DNS_PAGES)),
    "clouddns.queries.routed": ("0.70", (_MILLION, CLOUD_DNS, Origin.PUBLISHED, _DNS_PAGES)),
    "clouddns.check": ("2.00", ("address-month", CLOUD_DNS, Origin.PUBLISHED, _DNS_PAGES)),
    "gcp.ipv4": ("0.005", (_HOUR, GCP_NETWORK, Origin.MEMORY, None)),
    "gcp.storage.put": ("0.005", (_THOUSAND, GCS, Origin.MEMORY, None)),
    "gcp.storage.get": ("0.0004", (_THOUSAND, GCS, Origin.MEMORY, None)),
    "gcp.kms.key": ("1.00", ("key-month", CLOUD_KMS, Origin.PUBLISHED, _KMS_PAGE)),
    "gcp.kms.key.asymmetric": ("2.50", ("key-month", CLOUD_KMS, Origin.PUBLISHED, _KMS_PAGE)),
    "gcp.kms.rsa-2048": ("0.03", (_TEN_THOUSAND, CLOUD_KMS, Origin.PUBLISHED, _KMS_PAGE)),
    "gcp.kms.asymmetric": ("0.15", (_TEN_THOUSAND, CLOUD_KMS, Origin.PUBLISHED, _KMS_PAGE)),
    "gcp.logs": ("0.50", (_TRAFFIC, CLOUD_LOGGING, Origin.PUBLISHED, date(2021, 6, 24))),
    "cloudflare.zone": ("0", ("zone-month", CLOUDFLARE, Origin.MEMORY, None)),
}


def _columns(cloud: str, text: str) -> dict[str, dict[str, Decimal]]:
    head, *rows = text.strip().splitlines()
    table: dict[str, dict[str, Decimal]] = {f"{cloud}.{name}": {} for name in head.split()[1:]}
    for row in rows:
        region, *cells = row.split()
        for usd, cell in zip(table.values(), cells, strict=True):
            if cell != "-":
                usd[region] = Decimal(cell)
    return table


def _sku(name: str, kind: _Kind, usd: Mapping[str, Decimal]) -> Sku:
    unit, page, origin, read = kind
    return Sku(name, unit, page, origin, read, MappingProxyType(dict(usd)))


def _machine(name: str, parts: Mapping[str, Mapping[str, Decimal]]) -> Sku:
    family, cores, memory = _MACHINES[name]
    core, ram = parts[f"gcp.{family}.core"], parts[f"gcp.{family}.ram"]
    usd = {region: Decimal(cores) * price + Decimal(memory) * ram[region] for region, price in core.items()}
    return _sku(f"gcp.{name}", _KINDS[f"gcp.{family}"], usd)


def _table() -> dict[str, Sku]:
    regional = {**_columns("aws", _AWS), **_columns("gcp", _GCP)}
    skus = [_sku(name, _KINDS[name], usd) for name, usd in regional.items() if name in _KINDS]
    skus += [_machine(name, regional) for name in _MACHINES]
    skus += [_sku(name, kind, {EVERYWHERE: Decimal(usd)}) for name, (usd, kind) in _FLAT.items()]
    return {sku.name: sku for sku in skus}


PRICES: Prices = MappingProxyType(_table())
"""The SKUs by name."""


class _Own(BaseModel):
    """A file of own prices: SKU to region (or `*`) to USD."""

    model_config = ConfigDict(extra="forbid", strict=False)

    prices: dict[str, dict[str, Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]]]


def load(path: Path, prices: Prices = PRICES) -> Prices:
    """The table with a file's prices over it: YAML or JSON, `prices: {<SKU>: {<region or *>: <USD a unit>}}`.

    ConfigError with every problem: a file that cannot be read, a SKU that there is not, a price below 0.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        problem = Problem(str(path), error.strerror or "nothing", "a file of prices")
        raise ConfigError([problem], "the prices") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), " ".join(str(error).split()), "YAML")], "the prices") from None
    try:
        own = _Own.model_validate(data).prices
    except ValidationError as error:
        raise ConfigError(
            [
                Problem(".".join(map(str, item["loc"])) or str(path), repr(item["input"])[:80], item["msg"])
                for item in error.errors()
            ],
            "the prices",
        ) from None
    unknown = [
        Problem(f"prices.{name}", "no such SKU", ", ".join(prices)) for name in own if name not in prices
    ]
    if unknown:
        raise ConfigError(unknown, "the prices")
    return {
        name: replace(sku, origin=Origin.OWN, read=None, usd={**sku.usd, **own[name]}) if name in own else sku
        for name, sku in prices.items()
    }
