"""Programs that were not written for the policies: the pack's findings on them, whole."""

from functools import cache
from pathlib import Path

import pytest

from mailinfra_policy import command
from mailinfra_policy.formats.outcome import CLEAN, FINDINGS, Outcome
from tests.fleets import ROOT
from tests.policy_helpers import TODAY

PROGRAMS = ROOT / "examples" / "policies"
Place = tuple[str, str, str]
"""A finding's rule, the resource's name, the property's path."""

FOUND: dict[str, set[Place]] = {
    "aws-mail-faulty": {
        ("backups-immutable", "store", ""),
        ("backups-separate-keys", "store", ""),
        ("backups-three-copies", "store", ""),
        ("dns-dkim", "mx", ""),
        ("dns-dmarc", "dmarc", "records[0]"),
        ("dns-dnssec", "primary", ""),
        ("dns-mta-sts", "mx", ""),
        ("dns-mx-redundant", "mx", "records[0]"),
        ("dns-reverse", "address", ""),
        ("dns-spf", "spf", "records[0]"),
        ("dns-tls-rpt", "mx", ""),
        ("exposure-default-network", "mail", "vpcId"),
        ("exposure-default-network", "server", "subnetId"),
        ("exposure-deletion-protection", "store", ""),
        ("exposure-metadata-tokens", "server", "metadataOptions.httpTokens"),
        ("exposure-world-ports", "imap", "fromPort"),
        ("keys-customer-managed", "server", "rootBlockDevice.encrypted"),
        ("keys-customer-managed", "server", "rootBlockDevice.kmsKeyId"),
        ("keys-customer-managed", "store", "encrypted"),
        ("keys-customer-managed", "store", "kmsKeyId"),
        ("resilience-two-regions", "store", "region"),
        ("tls-node", "server", "userData"),
        ("tls-plain-ports", "imap", "fromPort"),
        ("traces-audit-log", "store", ""),
    },
    "aws-web-clean": set(),
    "aws-web-faulty": {
        ("exposure-admin-ports", "lb_sg", "ingress[1]"),
        ("exposure-bucket-block", "example", "bucket"),
        ("exposure-default-network", "default", "vpcSecurityGroupIds"),
        ("exposure-public-store", "default", "publiclyAccessible"),
        ("exposure-public-store", "example", "acl"),
        ("exposure-world-ports", "lb_sg", "ingress[1]"),
        ("keys-bucket-default", "example", "serverSideEncryptionConfiguration"),
        ("keys-customer-managed", "default", "kmsKeyId"),
        ("keys-customer-managed", "default", "storageEncrypted"),
        ("tls-backend", "front_end", "protocol"),
        ("tls-bucket", "example", ""),
        ("tls-cdn", "s3_distribution", "defaultCacheBehavior.viewerProtocolPolicy"),
        ("tls-cdn", "s3_distribution", "viewerCertificate.cloudfrontDefaultCertificate"),
        ("tls-cdn", "s3_distribution", "viewerCertificate.minimumProtocolVersion"),
        ("tls-database", "default", "parameterGroupName"),
        ("tls-listener", "front_end", "sslPolicy"),
        ("traces-access-log", "example", ""),
        ("traces-access-log", "front_end", "accessLogs.bucket"),
        ("traces-access-log", "front_end", "accessLogs.enabled"),
        ("traces-access-log", "main", ""),
        ("traces-access-log", "s3_distribution", "loggingConfig.bucket"),
        ("traces-audit-log", "default", ""),
    },
    "cloudflare-zone-clean": set(),
    "cloudflare-zone-faulty": {
        ("dns-dkim", "mx", ""),
        ("dns-dmarc", "mx", ""),
        ("dns-dnssec", "example_zone", ""),
        ("dns-mta-sts", "mx", ""),
        ("dns-mx-no-cname", "mx", "content"),
        ("dns-mx-redundant", "mx", "content"),
        ("dns-mx-redundant", "mx", "priority"),
        ("dns-spf", "spf", "content"),
        ("dns-tls-rpt", "mx", ""),
        ("keys-customer-managed", "example_r2_bucket", ""),
        ("residency-global", "example_r2_bucket", "jurisdiction"),
        ("tls-zone", "min_tls_version", "value"),
        ("tls-zone", "ssl", "value"),
        ("tls-zone-settings", "example_zone", ""),
    },
    "gcp-store-clean": set(),
    "gcp-store-faulty": {
        ("exposure-default-network", "default", "network"),
        ("exposure-default-network", "default", "networkInterfaces[0].network"),
        ("exposure-deletion-protection", "main", "deletionProtection"),
        ("exposure-deletion-protection", "main", "settings.deletionProtectionEnabled"),
        ("exposure-metadata-tokens", "default", "metadata.block-project-ssh-keys"),
        ("exposure-metadata-tokens", "default", "metadata.enable-oslogin"),
        ("exposure-public-store", "main", "settings.ipConfiguration.authorizedNetworks[0].value"),
        ("exposure-public-store", "main", "settings.ipConfiguration.ipv4Enabled"),
        ("exposure-public-store", "public", "member"),
        ("exposure-public-store", "static-site", "publicAccessPrevention"),
        ("exposure-public-store", "static-site", "uniformBucketLevelAccess"),
        ("exposure-world-ports", "default", "allows[1]"),
        ("keys-customer-managed", "default", "bootDisk.kmsKeySelfLink"),
        ("keys-customer-managed", "main", "encryptionKeyName"),
        ("keys-customer-managed", "static-site", "encryption.defaultKmsKeyName"),
        ("keys-rotation", "example-key", "rotationPeriod"),
        ("residency-region", "main", "region"),
        ("residency-region", "static-site", "location"),
        ("tls-database", "main", "settings.ipConfiguration.sslMode"),
        ("tls-plain-ports", "default", "allows[1].ports[2]"),
        ("traces-access-log", "static-site", "logging.logBucket"),
        ("traces-alarms", "example-key", ""),
        ("traces-audit-log", "static-site", ""),
    },
}
each_program = pytest.mark.parametrize("name", sorted(FOUND))


@cache
def outcome(name: str) -> Outcome:
    """What `mailinfra check --program` makes of a folder."""
    return command.judged(command.Request(program=PROGRAMS / name), TODAY)


def folders() -> list[str]:
    return sorted(path.parent.name for path in PROGRAMS.glob("*/Pulumi.yaml"))


def test_every_program_is_judged() -> None:
    assert folders() == sorted(FOUND)
    assert all(bool(FOUND[name]) == name.endswith("-faulty") for name in FOUND)


@each_program
def test_what_is_found_is_known_whole(name: str) -> None:
    judged = outcome(name)
    found = [
        (item.rule.id, item.finding.resource.name if item.finding.resource else "", item.finding.path)
        for item in judged.verdict.findings
    ]
    assert set(found) == FOUND[name]
    assert len(found) == len(FOUND[name])
    assert judged.gaps == () and judged.exit_code == (FINDINGS if FOUND[name] else CLEAN)


@each_program
def test_its_exceptions_are_in_force_and_needed(name: str) -> None:
    verdict = outcome(name).verdict
    assert not verdict.expired and not verdict.unused


@pytest.mark.parametrize("name", [name for name, places in sorted(FOUND.items()) if places])
def test_a_finding_says_on_which_line_of_the_program_it_is(name: str) -> None:
    lines = (PROGRAMS / name / "__main__.py").read_text().splitlines()
    for item in outcome(name).verdict.findings:
        resource = item.finding.resource
        assert resource is not None and resource.source is not None
        assert Path(resource.source.file).name == "__main__.py"
        assert f'"{resource.name}"' in "".join(lines[resource.source.line - 1 : resource.source.line + 1])
