"""What a fleet's config says across fields that cannot be.

Each check is a small function from a fleet to problems; it never raises. `problems` runs all of them, so that
everything wrong is said at once. Fields that are wrong by themselves are refused before, by their types.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from mailinfra import names, network
from mailinfra.errors import Problem
from mailinfra.fleet import (
    Cloud,
    Fleet,
    KeyStage,
    MxPolicy,
    ParentProvider,
    Residency,
    Role,
    SteeringProvider,
)
from mailinfra.places import COUNTRIES, OUTBOUND_SMTP, PLACES, Places, unknown_region
from mailinfra.records import SPF_LOOKUPS, egress_zones, has_role
from mailinfra.routing import CAPABILITIES, mx_regions

LONGEST_NAME = 253
LONGEST_LABEL = 63
SHARED_LABELS = ("mx", "nodes")
"""Labels under the primary domain that hold the steering zones and the nodes."""

EBS_SNAPSHOT = re.compile(r"snap-[0-9a-f]{8,17}")

Check = Callable[[Fleet, Places], Iterable[Problem]]


def problems(
    fleet: Fleet, places: Places = PLACES, sections: frozenset[str] = frozenset(Fleet.model_fields)
) -> list[Problem]:
    """Every problem of a fleet whose `sections` (top-level fields) are each well formed. Checks that need
    another section are left out."""
    return [problem for check in CHECKS if SECTIONS[check] <= sections for problem in check(fleet, places)]


def check_name(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """Bucket names are made from the fleet's name, and some beginnings are not allowed in them."""
    if fleet.name.startswith(("xn--", "sthree-", "goog")) or "google" in fleet.name:
        yield Problem(
            "name",
            repr(fleet.name),
            "a name that does not start with xn--, sthree- or goog and does not hold google (bucket names)",
        )


def check_domains(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """Each domain once, none inside another: its records would lie in two zones."""
    first = _first_places(fleet.domains)
    for index, domain in enumerate(fleet.domains):
        path = f"domains[{index}]"
        if first[domain] != index:
            yield Problem(path, f"{domain!r}, as domains[{first[domain]}]", "each domain once")
            continue
        labels = domain.split(".")
        above = next((up for n in range(1, len(labels)) if (up := ".".join(labels[n:])) in first), None)
        if above is not None:
            yield Problem(
                path,
                f"{domain!r}, which is below domains[{first[above]}] {above!r}",
                "domains of which none is below another",
            )


def check_zones(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """Countries that exist, once in a zone; a zone that is used and can have services named after it."""
    used = {region.zone for region in fleet.regions}
    for name, zone in fleet.zones.items():
        first = _first_places(zone.countries)
        for index, country in enumerate(zone.countries):
            path = f"zones.{name}.countries[{index}]"
            if country not in COUNTRIES:
                hint = {
                    "UK": "GB (the United Kingdom)",
                    "EL": "GR (Greece)",
                    "EU": "the member states one by one",
                }
                yield Problem(path, repr(country), hint.get(country, "a country of ISO 3166-1 alpha-2"))
            elif first[country] != index:
                yield Problem(path, f"{country!r} a second time", "each country once")
        if name not in used:
            yield Problem(f"zones.{name}", "a zone without a region", "zones that a region belongs to")
        if name in SHARED_LABELS:
            yield Problem(
                f"zones.{name}",
                f"the name {name!r}",
                f"a name other than {' and '.join(SHARED_LABELS)}, which hold other names of the fleet",
            )


def check_regions(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """Each region known, once, on its own cloud, in a zone whose countries hold it."""
    first = _first_places([region.region for region in fleet.regions])
    for index, region in enumerate(fleet.regions):
        path = f"regions[{index}]"
        if first[region.region] != index:
            yield Problem(
                f"{path}.region", f"{region.region!r}, as regions[{first[region.region]}]", "each region once"
            )
        zone = fleet.zones.get(region.zone)
        if zone is None:
            yield _unknown(f"{path}.zone", region.zone, "a zone of the fleet", fleet.zones)
        place = places.get(region.region)
        if place is None or place.cloud is not region.cloud:
            yield unknown_region(f"{path}.region", region.region, region.cloud, places)
        elif zone is not None and place.country not in zone.countries:
            yield Problem(
                f"{path}.zone",
                f"{region.zone!r}, but {region.region} ({place.city}) lies in {place.country}",
                f"a zone with {place.country} among its countries; {region.zone} has {', '.join(zone.countries)}",
            )


def check_groups(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """Group names, roles, positions and availability zones once each; egress only where port 25 is open."""
    for index, region in enumerate(fleet.regions):
        path = f"regions[{index}]"
        first = _first_places([group.name for group in region.groups])
        positions: dict[int, int] = {}
        letters = _first_places(region.availability_zones)
        for number, letter in enumerate(region.availability_zones):
            if letters[letter] != number:
                yield Problem(
                    f"{path}.availability_zones[{number}]", f"{letter!r} a second time", "each once"
                )
        for number, group in enumerate(region.groups):
            here = f"{path}.groups[{number}]"
            if first[group.name] != number:
                yield Problem(
                    f"{here}.name",
                    f"{group.name!r}, as groups[{first[group.name]}]",
                    "each name once in a region",
                )
            roles = _first_places(group.roles)
            for place_of_role, role in enumerate(group.roles):
                if roles[role] != place_of_role:
                    yield Problem(
                        f"{here}.roles[{place_of_role}]", f"{role.value} a second time", "each role once"
                    )
            position = network.position_of(region.groups, number)
            other = positions.setdefault(position, number)
            if other != number:
                yield Problem(
                    f"{here}.position",
                    f"{position}, the position of groups[{other}]",
                    "a position of its own; without one, a group's position is its place in the list",
                )
            if Role.EGRESS in group.roles and region.cloud not in OUTBOUND_SMTP:
                yield Problem(
                    f"{here}.roles[{roles[Role.EGRESS]}]",
                    f"egress on {region.cloud.value}, which never opens port 25 to the internet",
                    f"egress on {', '.join(sorted(cloud.value for cloud in OUTBOUND_SMTP))}",
                )


def check_restores(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """Only a node that there is and that holds mail has a volume to restore, from a snapshot of its own cloud."""
    for index, region in enumerate(fleet.regions):
        for number, group in enumerate(region.groups):
            for node, snapshot in group.from_snapshot.items():
                path = f"regions[{index}].groups[{number}].from_snapshot.{node}"
                if Role.MAILBOX not in group.roles:
                    yield Problem(path, "a group without the role mailbox", "a group with mail volumes")
                elif not 1 <= node <= group.count:
                    yield Problem(path, f"node {node}", f"a node of the group: 1 to {group.count}")
                if region.cloud is Cloud.AWS and not EBS_SNAPSHOT.fullmatch(snapshot):
                    yield Problem(path, repr(snapshot), "an EBS snapshot's id (snap-…)")


def check_networks(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """Networks that are not the internet's, do not overlap, and have room for their nodes."""
    spans = []
    for index, region in enumerate(fleet.regions):
        cidr = ipaddress.IPv4Network(region.network)
        path = f"regions[{index}].network"
        if (
            cidr.is_global
            or cidr.is_multicast
            or cidr.is_loopback
            or cidr.is_link_local
            or _is_reserved(cidr)
        ):
            yield Problem(
                path, region.network, "a private network: within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"
            )
        spans.append((int(cidr.network_address), int(cidr.broadcast_address), index))
        place = places.get(region.region)
        if place is not None:
            yield from network.fit_problems(region, place, f"regions[{index}]")
    reach, owner = -1, -1
    for start, end, index in sorted(spans):
        if start <= reach:
            one, other = sorted((owner, index))
            yield Problem(
                f"regions[{other}].network",
                f"{fleet.regions[other].network}, which overlaps regions[{one}] {fleet.regions[one].network}",
                "networks that do not overlap",
            )
        if end > reach:
            reach, owner = end, index


def check_zone_services(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """What a residency zone needs to work by itself: to send, to be read, to receive at home."""
    receives = {region.zone for region in mx_regions(fleet, 1)}
    for name in fleet.zones:
        regions = [region for region in fleet.regions if region.zone == name]
        path = f"zones.{name}"
        roles = {role for role in Role if any(has_role(region, role) for region in regions)}
        can_send = any(has_role(region, Role.EGRESS) and region.cloud in OUTBOUND_SMTP for region in regions)
        if roles and not can_send:
            clouds = ", ".join(sorted({region.cloud.value for region in regions}))
            yield Problem(
                path,
                f"a zone that cannot send: no egress node on AWS (its regions are on {clouds})",
                "a node group with the role egress, count 1 or more, in an AWS region of the zone",
            )
        for role in (Role.IMAP, Role.POP3, Role.SUBMISSION):
            if role in roles and Role.MAILBOX not in roles:
                yield Problem(
                    path,
                    f"{role.value} nodes, but no mailbox node: accounts never leave their zone",
                    "a node group with the role mailbox in the zone",
                )
        if Role.MAILBOX in roles and not roles & {Role.IMAP, Role.POP3}:
            yield Problem(
                path,
                "mailbox nodes, but neither imap nor pop3: nobody can read the mail",
                "a node group with the role imap or pop3 in the zone",
            )
        if fleet.residency is Residency.STRICT and Role.MAILBOX in roles and name not in receives:
            yield Problem(
                path,
                "mailbox nodes, but no primary MX region: under strict residency all its mail would cross borders",
                "a primary MX region in the zone, or residency: relaxed",
            )
    senders = egress_zones(fleet)
    if len(senders) > SPF_LOOKUPS:
        yield Problem(
            "zones",
            f"{len(senders)} zones with egress nodes",
            f"at most {SPF_LOOKUPS}: each costs a look-up in SPF (RFC 7208 4.6.4)",
        )


def check_mx(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """Two or more primaries, everywhere: regions, hosts, DNS zones."""
    known = {region.region: region for region in fleet.regions}
    for field, chosen in (("primaries", fleet.mx.primaries), ("secondaries", fleet.mx.secondaries)):
        first = _first_places(chosen)
        for index, name in enumerate(chosen):
            path = f"mx.{field}[{index}]"
            if name not in known:
                yield _unknown(path, name, "a region of the fleet", known)
            elif not has_role(known[name], Role.MX):
                yield Problem(
                    path, f"{name!r}, which has no mx node", "a region with a node group of role mx"
                )
            elif first[name] != index:
                yield Problem(path, f"{name!r} a second time", "each region once")
    primaries = mx_regions(fleet, 1)
    if len(primaries) < 2:
        found = f"a single primary MX region, {primaries[0].region}" if primaries else "no primary MX region"
        yield Problem("mx.primaries", found, "two or more regions with mx nodes")
    if len(fleet.dns.steering) < 2:
        yield Problem(
            "dns.steering",
            f"{len(fleet.dns.steering)} steering zone(s), and so as many primary MX hosts",
            "two or more steering zones, at one provider or several",
        )
    if fleet.mx.secondary_priority <= fleet.mx.primary_priority:
        yield Problem(
            "mx.secondary_priority",
            f"{fleet.mx.secondary_priority}, not above primary_priority {fleet.mx.primary_priority}",
            "a number above primary_priority: lower is preferred (RFC 5321 5.1)",
        )


def check_steering(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """What the steering providers can do: policies, weights, TTLs."""
    first = _first_places([item.label for item in fleet.dns.steering])
    primaries = mx_regions(fleet, 1)
    for index, item in enumerate(fleet.dns.steering):
        path = f"dns.steering[{index}]"
        if first[item.label] != index:
            yield Problem(
                f"{path}.label", f"{item.label!r}, as dns.steering[{first[item.label]}]", "each label once"
            )
        able = CAPABILITIES[item.provider]
        if fleet.mx.policy not in able.policies:
            allowed = ", ".join(sorted(policy.value for policy in able.policies))
            yield Problem(
                "mx.policy",
                f"{fleet.mx.policy.value}, which {item.provider.value} ({path}) does not offer",
                f"one of {allowed}, or other steering providers",
            )
        if fleet.mx.ttl_seconds > able.health_ttl_limit:
            yield Problem(
                "mx.ttl_seconds",
                str(fleet.mx.ttl_seconds),
                f"at most {able.health_ttl_limit} beside health checks at {item.provider.value}",
            )
        low, high = able.weight_range
        for number, region in enumerate(fleet.regions):
            nodes = sum(group.count for group in region.groups if Role.MX in group.roles)
            if nodes > able.answers_limit:
                yield Problem(
                    f"regions[{number}].groups",
                    f"{nodes} mx nodes",
                    f"at most {able.answers_limit} in a region: {item.provider.value} takes no more for one name",
                )
            if not low <= region.weight <= high:
                yield Problem(
                    f"regions[{number}].weight",
                    str(region.weight),
                    f"{low} to {high} at {item.provider.value}",
                )
    if fleet.mx.policy is MxPolicy.WEIGHTED and primaries and not any(region.weight for region in primaries):
        yield Problem(
            "regions", "the weight 0 in every primary MX region", "a weight above 0 in at least one of them"
        )


def check_accounts(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """The accounts that DNS providers and clouds need."""
    parent = fleet.dns.parent
    for domain in sorted(parent.existing.keys() - set(fleet.domains)):
        yield Problem(f"dns.parent.existing.{domain}", domain, f"one of {', '.join(fleet.domains)}")
    new = set(fleet.domains) - parent.existing.keys()
    if parent.provider is ParentProvider.CLOUDFLARE and new and not parent.account_id:
        yield Problem(
            "dns.parent.account_id", "nothing", "the id of the Cloudflare account (32 hexadecimal digits)"
        )
    if parent.provider is not ParentProvider.CLOUDFLARE and parent.account_id:
        yield Problem(
            "dns.parent.account_id",
            repr(parent.account_id),
            f"nothing: the provider is {parent.provider.value}",
        )
    users = [f"regions[{n}]" for n, region in enumerate(fleet.regions) if region.cloud is Cloud.GCP]
    users += [
        f"dns.steering[{n}]"
        for n, item in enumerate(fleet.dns.steering)
        if item.provider is SteeringProvider.CLOUDDNS
    ]
    users += ["dns.parent"] if parent.provider is ParentProvider.CLOUDDNS else []
    if users and not fleet.clouds.gcp.project:
        yield Problem(
            "clouds.gcp.project", "nothing", f"the id of a Google Cloud project, needed by {users[0]}"
        )
    on_aws = sum(region.cloud is Cloud.AWS for region in fleet.regions)
    endpoints = fleet.clouds.aws.endpoints
    for field, url in (("kms", endpoints.kms), ("storage", endpoints.storage), ("sts", endpoints.sts)):
        if url and on_aws > 1 and "{region}" not in url:
            yield Problem(
                f"clouds.aws.endpoints.{field}",
                repr(url),
                f"a URL with {{region}} in it: the fleet has {on_aws} AWS regions, and each has its own",
            )


def check_placement(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """Homes that exist and have mailboxes; rules that can be reached."""
    known = {region.region: region for region in fleet.regions}

    def home(path: str, name: str) -> Iterator[Problem]:
        if name not in known:
            yield _unknown(path, name, "a region of the fleet", known)
        elif not has_role(known[name], Role.MAILBOX):
            with_mailbox = [item for item in known if has_role(known[item], Role.MAILBOX)]
            yield Problem(
                path,
                f"{name!r}, which has no mailbox node",
                f"a region with mailbox nodes: {', '.join(with_mailbox) or 'the fleet has none'}",
            )

    decided: dict[tuple[str, str], int] = {}
    for index, rule in enumerate(fleet.placement.rules):
        yield from home(f"placement.rules[{index}].home", rule.home)
        for number, value in enumerate(rule.values):
            before = decided.setdefault((rule.attribute, value), index)
            if before != index or rule.values.index(value) != number:
                yield Problem(
                    f"placement.rules[{index}].values[{number}]",
                    f"{value!r}, which rules[{before}] has decided",
                    f"each value of {rule.attribute} in one rule",
                )
    yield from home("placement.default", fleet.placement.default)


def check_dkim(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """One generation that signs, selectors that are names and differ."""
    signing = [key.serial for key in fleet.dkim.keys if key.stage is KeyStage.SIGNING]
    if len(signing) != 1:
        found = f"{len(signing)} signing keys ({', '.join(signing)})" if signing else "no signing key"
        yield Problem("dkim.keys", found, "exactly one key with stage: signing")
    first = _first_places([key.serial for key in fleet.dkim.keys])
    for index, key in enumerate(fleet.dkim.keys):
        if first[key.serial] != index:
            yield Problem(f"dkim.keys[{index}].serial", f"{key.serial!r} a second time", "each serial once")
    template = fleet.dkim.selector
    bare = template.replace("{region}", "").replace("{serial}", "")
    if "{region}" not in template or "{serial}" not in template or "{" in bare or "}" in bare:
        yield Problem(
            "dkim.selector", repr(template), "a template with {region} and {serial} and no other braces"
        )
        return
    made: dict[str, tuple[str, str]] = {}
    for region in fleet.regions:
        for key in fleet.dkim.keys:
            selector = names.dkim_selector(fleet, region.region, key.serial)
            owner = (region.region, key.serial)
            other = made.setdefault(selector, owner)
            if not _is_name(selector):
                yield Problem(
                    "dkim.selector",
                    f"{template!r}, which makes {selector!r}",
                    f"labels of at most {LONGEST_LABEL} letters, digits and inner hyphens, with dots between",
                )
                return
            if other != owner:
                yield Problem(
                    "dkim.selector",
                    f"{template!r}, which makes {selector!r} for {' '.join(other)} and for {' '.join(owner)}",
                    "a template that keeps regions and serials apart, such as {region}-{serial}",
                )
                return


def check_backup(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """Each vault is for a region that holds mail, and lies elsewhere in that region's zone."""
    stores = {region.region: region for region in fleet.regions if has_role(region, Role.MAILBOX)}
    zones, project = fleet.zones, fleet.clouds.gcp.project
    for name, vault in fleet.backup.vaults.items():
        path = f"backup.vaults.{name}"
        store = stores.get(name)
        if store is None:
            yield _unknown(path, name, "a region of the fleet with mailbox nodes", stores)
            continue
        place, zone = places.get(vault.region), zones.get(store.zone)
        if place is None or place.cloud is not vault.cloud:
            yield unknown_region(f"{path}.region", vault.region, vault.cloud, places)
        elif zone is not None and place.country not in zone.countries:
            yield Problem(
                f"{path}.region",
                f"{vault.region!r}, which lies in {place.country}",
                f"a region in zone {store.zone}: {', '.join(zone.countries)}",
            )
        elif vault.region == name:
            yield Problem(f"{path}.region", f"{vault.region!r}, where the mail itself is", "another region")
        if vault.cloud is Cloud.GCP and not project:
            yield Problem(
                f"{path}.cloud", "'gcp', and no clouds.gcp.project", "gcp with a project, or another cloud"
            )


def check_name_lengths(fleet: Fleet, places: Places) -> Iterator[Problem]:
    """The longest names that are made from a domain still are names (RFC 1035 2.3.4)."""
    selectors = [
        names.dkim_selector(fleet, region.region, key.serial)
        for region in fleet.regions
        for key in fleet.dkim.keys
    ]
    nodes = [
        names.node_fqdn(fleet, region.region, group.name, max(1, group.count))
        for region in fleet.regions
        for group in region.groups
    ]
    services = [
        f"_465._tcp.{names.service_host(fleet, service, zone)}"
        for zone in fleet.zones
        for service in names.SERVICES
    ]
    exchanges = [f"_25._tcp.{names.mx_host(fleet, item.label, 1)}" for item in fleet.dns.steering]
    pools = [
        f"{region.region}.region.{names.steering_zone(fleet, item.label)}"
        for item in fleet.dns.steering
        for region in fleet.regions
    ]
    longest = max((*nodes, *services, *exchanges, *pools), key=len)
    if len(longest) > LONGEST_NAME:
        yield _too_long("domains[0]", longest)
    for index, domain in enumerate(fleet.domains):
        made = [names.dkim_name(selector, domain) for selector in selectors]
        made += [f"_submissions._tcp.{domain}", f"{domain}._report._dmarc.{fleet.primary_domain}"]
        worst = max(made, key=len)
        if len(worst) > LONGEST_NAME:
            yield _too_long(f"domains[{index}]", worst)


SECTIONS: Mapping[Check, frozenset[str]] = {
    check_name: frozenset({"name"}),
    check_domains: frozenset({"domains"}),
    check_zones: frozenset({"zones", "regions"}),
    check_regions: frozenset({"zones", "regions"}),
    check_groups: frozenset({"regions"}),
    check_restores: frozenset({"regions"}),
    check_networks: frozenset({"regions"}),
    check_zone_services: frozenset({"zones", "regions", "mx", "residency"}),
    check_mx: frozenset({"regions", "mx", "dns"}),
    check_steering: frozenset({"regions", "mx", "dns"}),
    check_accounts: frozenset({"domains", "regions", "dns", "clouds"}),
    check_placement: frozenset({"regions", "placement"}),
    check_dkim: frozenset({"regions", "dkim"}),
    check_backup: frozenset({"zones", "regions", "backup", "clouds"}),
    check_name_lengths: frozenset({"domains", "zones", "regions", "dns", "dkim"}),
}
"""Each check with the top-level fields that it reads."""
CHECKS: tuple[Check, ...] = tuple(SECTIONS)


def _first_places(items: Sequence[str]) -> dict[str, int]:
    """The index at which each item stands first."""
    return {item: index for index, item in reversed(list(enumerate(items)))}


def _unknown(path: str, found: str, what: str, known: Iterable[str]) -> Problem:
    options = list(known)
    close = get_close_matches(found, options, n=3)
    return Problem(path, repr(found), f"{what}: {', '.join(close or options)}")


def _too_long(path: str, name: str) -> Problem:
    return Problem(
        path,
        f"a domain from which the name {name[:40]}… of {len(name)} characters is made",
        f"a shorter domain: names have at most {LONGEST_NAME} characters",
    )


def _is_name(text: str) -> bool:
    labels = text.split(".")
    return all(
        0 < len(label) <= LONGEST_LABEL
        and label[0] != "-"
        and label[-1] != "-"
        and all(letter in "abcdefghijklmnopqrstuvwxyz0123456789-" for letter in label)
        for label in labels
    )


def _is_reserved(cidr: ipaddress.IPv4Network) -> bool:
    return cidr.is_unspecified or cidr.is_reserved or cidr.overlaps(ipaddress.IPv4Network("0.0.0.0/8"))
