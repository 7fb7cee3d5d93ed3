"""A zone whose site speaks plain HTTP, and whose mail anyone may forge."""

import pulumi_cloudflare as cloudflare

account_id = "023e105f4ecef8ad9ca31a8372d0c353"

zone = cloudflare.Zone("example_zone", account={"id": account_id}, name="example.com", type="full")

cloudflare.ZoneSetting("ssl", zone_id=zone.id, setting_id="ssl", value="flexible")
cloudflare.ZoneSetting("min_tls_version", zone_id=zone.id, setting_id="min_tls_version", value="1.0")

cloudflare.DnsRecord(
    "www", zone_id=zone.id, name="www.example.com", type="A", content="198.51.100.4", ttl=1, proxied=True
)
cloudflare.DnsRecord(
    "mx", zone_id=zone.id, name="example.com", type="MX", content="mail.example.com", priority=10, ttl=3600
)
cloudflare.DnsRecord(
    "mail", zone_id=zone.id, name="mail.example.com", type="CNAME", content="mail.provider.test", ttl=3600
)
cloudflare.DnsRecord(
    "spf", zone_id=zone.id, name="example.com", type="TXT", content='"v=spf1 mx ?all"', ttl=3600
)

cloudflare.R2Bucket("example_r2_bucket", account_id=account_id, name="example-bucket", location="ENAM")
