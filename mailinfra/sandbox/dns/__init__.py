"""The sandbox's DNS: a signed root, a top-level domain, reverse zones, and the name servers of three DNS
clouds.

`translate.py` and its three siblings turn what a program declares at Route 53, Cloud DNS or Cloudflare into
PowerDNS records, `routing.lua` decides each answer, `prober.py` probes what health checks declare,
`service.py` is the part of the daemon that providers call.
"""
