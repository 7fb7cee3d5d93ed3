"""Claims about submitted mail: it arrives outside, and independent verifiers find it signed and authorised."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailinfra import names
from mailinfra.fleet import Role
from mailinfra.plan import NodePlan, signing_key
from mailinfra.probe import mail
from mailinfra.probe.row import Claim, Finding, ProbeError, count, listed
from mailinfra.probe.site import Site, each
from mailinfra.sandbox.dns.outside import OutsideHost
from mailinfra.sandbox.people import Person

ARRIVAL_SECONDS = 45.0
"""From submission to the outside host's mailbox: the most that we let pass, on a busy machine."""
PORTS = ((465, "implicit"), (587, "starttls"))


@dataclass(frozen=True)
class Submission:
    """One message that a user submitted, and what the receiver outside found. `verdict` is empty when it did not
    arrive, and `problem` says why."""

    node: NodePlan
    port: int
    person: Person
    outside: OutsideHost
    seconds: float
    session: dict[str, Any]
    verdict: dict[str, Any]
    problem: str

    @property
    def subject(self) -> str:
        """What tells it apart."""
        return f"{self.node.fqdn.split('.')[1]} {self.port}"


def submissions(site: Site) -> list[Submission]:
    """A message through each port of every submission node, to the outside hosts in turn."""
    plans = []
    for number, node in enumerate(site.nodes(Role.SUBMISSION)):
        zone = site.zone(node.region)
        people = [person for person in site.people if site.zone(person.home) == zone]
        if not people:
            raise ProbeError(f"no user of zone {zone} to submit as")
        for index, (port, tls) in enumerate(PORTS):
            person = people[(number + index) % len(people)]
            plans.append((node, port, tls, person, site.outside[(number + index) % len(site.outside)]))
    return [done for host in each(lambda o: _submit(site, o, plans), site.outside) for done in host]


Planned = tuple[NodePlan, int, str, Person, OutsideHost]


def _submit(site: Site, receiver: OutsideHost, plans: list[Planned]) -> list[Submission]:
    """All messages for one receiver; they are submitted from there too."""
    chosen = [item for item in plans if item[4] == receiver]
    marks = [mail.token() for _ in chosen]
    calls = []
    for (node, port, tls, person, outside), mark in zip(chosen, marks, strict=True):
        recipient = f"probe-{mark}@{outside.domain}"
        calls.append(
            {
                "address": site.addresses(node.fqdn)[0],
                "port": port,
                "tls": tls,
                "name": names.service_host(site.plan.fleet, "smtp", site.zone(node.region)),
                "login": [person.address, person.password],
                "sender": person.address,
                "recipients": [recipient],
                "message": mail.coded(mail.message(person.address, recipient, mark)),
            }
        )
    sessions = site.run(receiver.id, "smtp", calls)
    sent = [mark for mark, session in zip(marks, sessions, strict=True) if session["accepted"]]
    arrived = site.run(
        receiver.id, "inbox", {"tokens": sent, "seconds": ARRIVAL_SECONDS}, ARRIVAL_SECONDS + 90
    )
    found = []
    for (node, port, _, person, outside), mark, session in zip(chosen, marks, sessions, strict=True):
        got = arrived.get(mark)
        verdict = got["verdict"] if got else {}
        problem = str(verdict.get("error", ""))
        if not session["accepted"]:
            steps = [
                session[step] for step in ("banner", "login", "sender", "recipients", "data") if session[step]
            ]
            problem = f"not accepted: {session['error'] or (steps or ['no answer'])[-1]}"
        elif not got:
            problem = f"did not arrive at {outside.domain} in {ARRIVAL_SECONDS:g} s"
        seconds = got["arrived"] - session["accepted"] if got and session["accepted"] else 0.0
        found.append(
            Submission(node, port, person, outside, seconds, session, {} if problem else verdict, problem)
        )
    return found


def _each_verdict(site: Site, judge: Any) -> tuple[int, int, list[str]]:
    """How many submissions `judge` finds right, of how many, and what it says of the others."""
    done = site.once(submissions)
    wrong = []
    for item in done:
        problem = item.problem or judge(item)
        if problem:
            wrong.append(f"{item.subject}: {problem}")
    return len(done) - len(wrong), len(done), wrong


def arrives(site: Site) -> Iterable[Finding]:
    """Submission over both ports in every region, and the slowest way out."""
    good, every, wrong = _each_verdict(site, lambda item: "")
    yield count(good, every, "messages", wrong=wrong)
    slowest = max((item.seconds for item in site.once(submissions) if not item.problem), default=None)
    if slowest is not None:
        yield Finding(
            slowest <= ARRIVAL_SECONDS, round(slowest, 2), ARRIVAL_SECONDS, "s", "the slowest of them"
        )


def _dkim(site: Site, item: Submission) -> str:
    """Why a message's signatures are not as they must be; empty when they are."""
    region = item.node.region
    selector = names.dkim_selector(site.plan.fleet, region, signing_key(site.plan.fleet).serial)
    domain = item.person.address.partition("@")[2]
    signatures = item.verdict["dkim"]
    if not signatures:
        return "not signed"
    for signature in signatures:
        if not signature["valid"]:
            return f"dkimpy: {signature['error']}"
        if (signature["domain"], signature["algorithm"]) != (domain, "rsa-sha256"):
            return f"signed by {signature['domain']} with {signature['algorithm']}"
        if signature["selector"] != selector:
            return f"selector {signature['selector']}, not {selector} of {region}"
    if not item.verdict["opendkim"]["valid"]:
        return f"OpenDKIM: {item.verdict['opendkim']['error']}"
    return ""


def dkim_valid(site: Site) -> Iterable[Finding]:
    """dkimpy and OpenDKIM both verify; the selector is that of the region which accepted the submission."""
    good, every, wrong = _each_verdict(site, lambda item: _dkim(site, item))
    yield count(good, every, "messages", wrong=wrong)


def spf_pass(site: Site) -> Iterable[Finding]:
    """pyspf finds the client's address authorised for the envelope sender."""

    def judge(item: Submission) -> str:
        found = item.verdict["spf"]
        return "" if found["result"] == "pass" else f"{found['result']} {found['error']}".strip()

    good, every, wrong = _each_verdict(site, judge)
    yield count(good, every, "messages", wrong=wrong)


def dmarc_aligned(site: Site) -> Iterable[Finding]:
    """The author's domain is that of the signature and of the envelope, under the published policy."""
    policy = site.plan.fleet.authentication.dmarc.value

    def judge(item: Submission) -> str:
        found = item.verdict["dmarc"]
        if found["policy"] != policy:
            return f"policy {found['policy']}, not {policy}"
        missing = [name for name in ("dkim", "spf") if not found[f"{name}_aligned"]]
        return f"not aligned: {', '.join(missing)}" if missing else ""

    good, every, wrong = _each_verdict(site, judge)
    yield count(good, every, "messages", wrong=wrong)


@dataclass(frozen=True)
class PublicKey:
    """A DKIM key as the DNS has it."""

    selector: str
    domain: str
    modulus: int
    problem: str


def public_keys(site: Site) -> list[PublicKey]:
    """Every published DKIM key of every domain, as an outside resolver gives it."""
    wanted = [
        (key.selector, domain)
        for key in site.plan.dkim_keys
        if key.stage != "generated"
        for domain in site.plan.fleet.domains
    ]
    queries = [[names.dkim_name(selector, domain), "TXT"] for selector, domain in wanted]
    answers = site.run(site.outside[0].id, "resolve", {"queries": queries})
    return [_public_key(*pair, answer) for pair, answer in zip(wanted, answers, strict=True)]


def _public_key(selector: str, domain: str, answer: dict[str, Any]) -> PublicKey:
    try:
        (text,) = answer["values"]
        tags = dict(part.strip().partition("=")[::2] for part in text.split(";") if "=" in part)
        key = load_der_public_key(base64.b64decode(tags["p"]))
        if not isinstance(key, rsa.RSAPublicKey):
            raise TypeError("not an RSA key")
    except (ValueError, KeyError, TypeError) as error:
        problem = f"{selector} of {domain}: {answer['error'] or answer['rcode']}, {answer['values']}: {error}"
        return PublicKey(selector, domain, 0, problem)
    return PublicKey(selector, domain, key.public_numbers().n, "")


def key_length(site: Site) -> Iterable[Finding]:
    """The shortest published DKIM key."""
    found = site.once(public_keys)
    problems = [key.problem for key in found if key.problem]
    shortest = min((key.modulus.bit_length() for key in found), default=0)
    wanted = site.plan.fleet.dkim.bits
    yield Finding(
        shortest == wanted and not problems,
        shortest,
        wanted,
        "bits",
        detail=listed(problems) or f"{len(found)} records",
    )


CLAIMS = (
    Claim("signing.arrives", "Mail submitted over 465 and 587 in every region arrives outside", ("R02",), arrives),
    Claim("signing.dkim", "DKIM valid (dkimpy and OpenDKIM), by the submitting region's key", ("R13", "R20"),
          dkim_valid),
    Claim("signing.bits", "Length of the published DKIM keys", ("R13",), key_length),
    Claim("signing.spf", "SPF passes (pyspf)", ("R13",), spf_pass),
    Claim("signing.dmarc", "DMARC: DKIM and SPF aligned with the author", ("R13",), dmarc_aligned),
)  # fmt: skip
