"""`mailinfra restore`: asks a region's mailbox nodes to bring mail back from the vault, and waits for them.

The request is an object in the control bucket of the region that does it, written with the operator's own cloud
credentials; the nodes write how far they are beside it. No mail comes near the operator.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mailinfra import names
from mailinfra.backup.plan import copies, followers
from mailinfra.errors import UserError
from mailinfra.fleet import Fleet
from mailinfra.node.backup.requests import (
    MESSAGE_ID,
    REQUESTS,
    Progress,
    Request,
    dump,
    parse_progress,
    progress_key,
)
from mailinfra.publish import PublishError, Store

POLL_SECONDS = 2.0
SILENT_SECONDS = 90.0
"""Nodes look for requests every ten seconds; after so long it is said that one has not answered."""


class RestoreError(UserError):
    """The restore is refused, or has failed; says why, and what can be done."""


@dataclass(frozen=True)
class Scope:
    """What is to come back: exactly one of one message of a mailbox, a mailbox, a domain, a region."""

    mailbox: str = ""
    message: str = ""
    domain: str = ""
    region: str = ""

    def check(self) -> None:
        """`RestoreError` unless it says exactly one thing."""
        if [bool(self.mailbox), bool(self.domain), bool(self.region)].count(True) != 1:
            raise RestoreError(
                "give exactly one of --mailbox (alone or with --message), --domain and --region"
            )
        if self.message and not self.mailbox:
            raise RestoreError("--message needs --mailbox: whose message it is")
        if self.message and not MESSAGE_ID.fullmatch(self.message):
            raise RestoreError(
                f"--message: found {self.message!r}; a Message-ID is <left@right>, with the angles"
            )


@dataclass(frozen=True)
class Order:
    """One request, and the nodes (FQDNs) that have to answer it."""

    request: Request
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What a node said last."""

    node: str
    progress: Progress | None


@dataclass(frozen=True)
class User:
    """Where a mailbox is and where its replica, both FQDNs of mailbox nodes."""

    address: str
    host: str
    replica: str

    @property
    def home(self) -> str:
        """The home region."""
        return region_of(self.host)


def region_of(fqdn: str) -> str:
    """The region in a node's name: `eu-central-1` of `store-1.eu-central-1.nodes.example.test`."""
    return fqdn.split(".")[1]


def at_time(text: str, now: datetime) -> datetime:
    """The point in time that an operator wrote: ISO 8601 with its zone, or nothing for now. `RestoreError`."""
    if not text:
        return now
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise RestoreError(f"--at: found {text!r}; write it like 2026-11-23T10:00:00Z") from None
    if moment.tzinfo is None:
        raise RestoreError(f"--at: {text!r} has no time zone; write it like 2026-11-23T10:00:00Z")
    if moment > now:
        raise RestoreError(f"--at: {text} is in the future")
    return moment.astimezone(UTC)


def users_of(fleet: Fleet, routes: bytes) -> list[User]:
    """The users in a published directory. `RestoreError` when it is none of ours."""
    replicas = followers(fleet)
    found = []
    try:
        for line in routes.splitlines():
            known = json.loads(line)
            if known["kind"] != "user" or known["user"] != known["address"]:
                continue
            host = known["mailbox_host"]
            follows = known.get("replica") or replicas.get(host, "")
            found.append(User(known["address"], host, follows))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise RestoreError(
            f"{names.ROUTES_KEY} in the control bucket is not a directory of ours: {error}"
        ) from None
    return found


def chosen(fleet: Fleet, scope: Scope, users: Iterable[User]) -> list[User]:
    """The users that a scope means. `RestoreError` when there is none."""
    if scope.domain and scope.domain not in fleet.domains:
        raise RestoreError(f"--domain: {scope.domain} is not of this fleet: {', '.join(fleet.domains)}")
    stores = [store.region for store in copies(fleet)]
    if scope.region and scope.region not in stores:
        raise RestoreError(f"--region: {scope.region} holds no mail; those that do: {', '.join(stores)}")
    found = [
        user
        for user in users
        if user.address == scope.mailbox
        or (scope.domain and user.address.endswith(f"@{scope.domain}"))
        or (scope.region and user.home == scope.region)
    ]
    if not found:
        raise RestoreError(f"the directory has nobody at {scope.mailbox or scope.domain or scope.region}")
    return found


def target(fleet: Fleet, home: str, source: str, wanted: str) -> str:
    """The region that restores mail from the copies of `source` for users at home in `home`, as `wanted` if that may
    be. `RestoreError` for another zone, or a region that cannot read the copies."""
    regions = {region.region: region for region in fleet.regions}
    stores = {store.region: store for store in copies(fleet)}
    for option, name in (("--to", wanted), ("--from", source)):
        if name and name not in regions:
            raise RestoreError(f"{option}: {name} is no region of this fleet: {', '.join(regions)}")
    to, zone = wanted or home, regions[source].zone
    for name in (to, home):
        if regions[name].zone != zone:
            raise RestoreError(
                f"mail of {source} may not leave the zone {zone}, and {name} is in {regions[name].zone}: "
                "nothing was done"
            )
    if source not in stores or not stores[source].vault:
        raise RestoreError(f"{source} has no vault")
    readers = [source, *filter(None, [stores[source].replica])]
    if to not in readers:
        raise RestoreError(f"{to} may not read the copies of {source}; those that may: {', '.join(readers)}")
    return to


def orders(
    fleet: Fleet,
    scope: Scope,
    routes: bytes,
    *,
    at: datetime,
    now: datetime,
    to: str = "",
    source: str = "",
    apply: bool = False,
) -> list[Order]:
    """The requests that a restore takes: one for each home region of the users. Nothing is written yet.

    Raises `RestoreError` for whatever must not be, before anything is done.
    """
    scope.check()
    homes: dict[str, list[User]] = {}
    for user in chosen(fleet, scope, users_of(fleet, routes)):
        homes.setdefault(user.home, []).append(user)
    found = []
    for home, members in homes.items():
        begins = source or home
        does = target(fleet, home, begins, to)
        hosts = {user.host if does == home else user.replica for user in members}
        if wrong := [host for host in hosts if not host or region_of(host) != does]:
            raise RestoreError(
                f"{does} does not hold these mailboxes; they are on {', '.join(wrong) or 'no node'}"
            )
        request = Request(
            id=secrets.token_hex(8),
            created=now,
            at=at,
            source=begins,
            target=does,
            apply=apply,
            mailbox=scope.mailbox,
            message=scope.message,
            domain=scope.domain,
            everything=bool(scope.region),
        )
        found.append(Order(request, tuple(sorted(hosts))))
    return found


def directory(stores: Mapping[str, Store], preferred: str = "") -> bytes:
    """The published routes, from the first region that has them. `RestoreError` when none does."""
    troubles = []
    for region in sorted(stores, key=lambda name: name != preferred):
        try:
            if stored := stores[region].get(names.ROUTES_KEY):
                return stored.body
        except PublishError as error:
            troubles.append(str(error))
    raise RestoreError("; ".join(troubles) or "no directory was published yet")


def send(stores: Mapping[str, Store], order: Order) -> None:
    """Write a request into the control bucket of the region that does it. `RestoreError`."""
    request = order.request
    try:
        stores[request.target].put(f"{REQUESTS}{request.id}.json", dump(request), None)
    except PublishError as error:
        raise RestoreError(
            f"{error}\nThe control bucket of {request.target} cannot be written; try another --to"
        ) from None


def answers(stores: Mapping[str, Store], order: Order) -> list[Answer]:
    """What each node has said so far."""
    found = []
    for fqdn in order.nodes:
        node = fqdn.partition(".")[0]
        key = progress_key(node.rpartition("-")[0], order.request.id, node)
        progress = None
        try:
            if stored := stores[order.request.target].get(key):
                progress = parse_progress(stored.body)
        except (PublishError, ValueError):
            # Asked again in a moment.
            pass
        found.append(Answer(fqdn, progress))
    return found


def wait(
    stores: Mapping[str, Store],
    order: Order,
    say: Callable[[str], None],
    *,
    limit: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> list[Progress]:
    """Wait until every node is through, saying how far they are. `RestoreError` after `limit` seconds."""
    began, said = clock(), ""
    while True:
        found = answers(stores, order)
        if all(answer.progress and answer.progress.state != "running" for answer in found):
            return [answer.progress for answer in found if answer.progress]
        waited = clock() - began
        text = "; ".join(line(answer, waited) for answer in found)
        if text != said:
            say(text)
            said = text
        if waited > limit:
            raise RestoreError(
                f"not through after {limit:.0f} s ({text}); the nodes go on with request {order.request.id}, "
                "and giving the command again is safe"
            )
        sleep(POLL_SECONDS)


def line(answer: Answer, waited: float) -> str:
    """How far one node is, for a person."""
    node, progress = ".".join(answer.node.split(".")[:2]), answer.progress
    if not progress:
        return f"{node} has not answered yet" + (": does it run?" if waited > SILENT_SECONDS else "")
    return (
        f"{node}: {progress.users_done} of {progress.users} mailboxes, "
        f"{progress.restored} of {progress.missing} messages"
    )


def summary(order: Order, results: Iterable[Progress]) -> list[str]:
    """What came of a request, for a person: a line for each node."""
    lines = []
    for result in results:
        node = ".".join(result.node.split(".")[:2])
        done = f"{result.restored} restored" if order.request.apply else f"{result.missing} would be restored"
        text = (
            f"{node}: {result.users_done} of {result.users} mailboxes, {result.copied} messages in the copy"
        )
        text += f" of {result.copy}" if result.copy else ""
        text += f", {done}"
        lines.append(f"{text}; {result.state}{f': {result.error}' if result.error else ''}")
    return lines


def now() -> datetime:
    """The time, in whole seconds of UTC."""
    return datetime.now(UTC).replace(microsecond=0)
