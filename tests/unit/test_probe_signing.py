"""Tests of mailinfra.probe.signing: what verifiers say decides."""

import base64
import copy
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailinfra.probe import signing
from tests.probe_helpers import Made

GOOD: dict[str, Any] = {
    "opendkim": {"valid": True, "error": ""},
    "spf": {"result": "pass", "error": "", "address": "198.51.100.2"},
    "dmarc": {"policy": "reject", "dkim_aligned": True, "spf_aligned": True},
}


def made(change: Any = lambda verdict: None, lost: bool = False, refused: bool = False) -> Made:
    """A fleet whose messages arrive with a good verdict, changed."""
    regions: dict[str, str] = {}

    def smtp(machine: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        site = fleet.site()
        for call in calls:
            token = call["recipients"][0].partition("@")[0].removeprefix("probe-")
            regions[token] = site.owner(call["address"]).split(".")[1]
        session = {"accepted": None if refused else 1000.0, "error": "", "banner": "220"}
        steps = {"login": [], "sender": [], "recipients": [], "data": [554, "no"]}
        return [{**session, **steps} for _ in calls]

    def inbox(machine: str, told: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for token in told["tokens"]:
            verdict = copy.deepcopy(GOOD)
            verdict["dkim"] = [
                {"domain": "example.test", "selector": f"{regions[token]}-1", "algorithm": "rsa-sha256", "valid": True,
                 "error": ""}
            ]  # fmt: skip
            change(verdict)
            found[token] = {"arrived": 1002.0, "verdict": verdict}
        return {} if lost else found

    fleet = Made(scripts={"smtp": smtp, "inbox": inbox})
    return fleet


CLAIMS = (signing.arrives, signing.dkim_valid, signing.spf_pass, signing.dmarc_aligned)


def test_both_ports_of_every_region_are_used_and_good_mail_is_right() -> None:
    fleet = made()
    site = fleet.site()
    for claim in CLAIMS:
        findings = list(claim(site))
        assert all(finding.ok for finding in findings)
        assert findings[0].measured == 8
    submitted = {
        (call["address"], call["port"]) for _, name, calls in fleet.asked if name == "smtp" for call in calls
    }
    assert len(submitted) == 8


def change(path: str, value: Any) -> Any:
    def apply(verdict: dict[str, Any]) -> None:
        part: Any = verdict
        *steps, last = path.split(".")
        for step in steps:
            part = part[int(step)] if step.isdigit() else part[step]
        part[last] = value

    return apply


@pytest.mark.parametrize(
    ("claim", "path", "value"),
    [
        (signing.dkim_valid, "dkim.0.valid", False),
        (signing.dkim_valid, "dkim.0.selector", "us-east-9-1"),
        (signing.dkim_valid, "dkim.0.algorithm", "rsa-sha1"),
        (signing.dkim_valid, "dkim.0.domain", "outside-de.test"),
        (signing.dkim_valid, "dkim", []),
        (signing.dkim_valid, "opendkim.valid", False),
        (signing.spf_pass, "spf.result", "softfail"),
        (signing.dmarc_aligned, "dmarc.spf_aligned", False),
        (signing.dmarc_aligned, "dmarc.dkim_aligned", False),
        (signing.dmarc_aligned, "dmarc.policy", "none"),
    ],
)
def test_anything_less_is_wrong(claim: Any, path: str, value: Any) -> None:
    (finding,) = claim(made(change(path, value)).site())
    assert (finding.ok, finding.measured) == (False, 0)


@pytest.mark.parametrize("how", [{"lost": True}, {"refused": True}])
def test_mail_that_did_not_arrive_proves_nothing(how: dict[str, bool]) -> None:
    site = made(**how).site()
    for claim in CLAIMS:
        assert not next(iter(claim(site))).ok


def key_record(key: Any) -> str:
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        (key_record(rsa.generate_private_key(65537, 2048)), True),
        (key_record(rsa.generate_private_key(65537, 3072)), False),
        (key_record(ec.generate_private_key(ec.SECP256R1())), False),
        ("v=DKIM1; p=", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_published_keys_must_be_as_long_as_declared(text: str, ok: bool) -> None:
    answer = {"values": [text] if text else [], "error": "", "rcode": "NOERROR"}
    fleet = Made(scripts={"resolve": lambda _, told: [answer for _ in told["queries"]]})
    (finding,) = signing.key_length(fleet.site())
    assert finding.ok is ok
