"""A zone whose site speaks TLS 1.3 only, and which has no mail: a null MX (RFC 7505) and an SPF record that says so."""

import pulumi_cloudflare as cloudflare

account_id = "023e105f4ecef8ad9ca31a8372d0c353"

zone = cloudflare.Zone("example_zone", account={"id": account_id}, name="example.com", type="full")
cloudflare.ZoneDnssec("example_zone_dnssec", zone_id=zone.id, status="active")

SETTINGS = {"ssl": "strict", "min_tls_version": "1.3", "tls_1_3": "on", "always_use_https": "on"}
for setting, value in SETTINGS.items():
    cloudflare.ZoneSetting(setting, zone_id=zone.id, setting_id=setting, value=value)

cloudflare.DnsRecord(
    "www", zone_id=zone.id, name="www.example.com", type="A", content="198.51.100.4", ttl=1, proxied=True
)
cloudflare.DnsRecord("mx", zone_id=zone.id, name="example.com", type="MX", content=".", priority=0, ttl=3600)
cloudflare.DnsRecord(
    "spf", zone_id=zone.id, name="example.com", type="TXT", content='"v=spf1 -all"', ttl=3600
)
cloudflare.DnsRecord(
    "dmarc", zone_id=zone.id, name="_dmarc.example.com", type="TXT", content='"v=DMARC1; p=reject"', ttl=3600
)

cloudflare.R2Bucket("eu-documents", account_id=account_id, name="documents", jurisdiction="eu")
