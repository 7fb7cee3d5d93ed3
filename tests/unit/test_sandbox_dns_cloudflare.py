"""Cloudflare's records."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.sandbox.dns.cloudflare import translate
from mailinfra.sandbox.dns.rdata import TYPES, RefusedError
from mailinfra.sandbox.dns.translate import RRset

ZONE = "example.test."


def one(**record: Any) -> RRset:
    result = translate(ZONE, [record])
    assert len(result.rrsets) == 1
    return result.rrsets[0]


@pytest.mark.parametrize("name", ["@", "example.test", "EXAMPLE.test."])
def test_the_zones_own_name(name: str) -> None:
    assert one(name=name, type="A", content="192.0.2.1", ttl=1) == RRset(ZONE, "A", 300, ("192.0.2.1",))


def test_names_within_the_zone_may_be_short() -> None:
    assert one(name="www", type="A", content="192.0.2.1").name == "www.example.test."


def test_mx_has_its_priority_beside_the_content() -> None:
    assert one(name="@", type="MX", content="mx1.test", priority=10.0, ttl=60).contents == ("10 mx1.test.",)
    with pytest.raises(RefusedError, match="priority is missing"):
        one(name="@", type="MX", content="mx1.test")


def test_texts_are_quoted_and_split_by_cloudflare() -> None:
    assert one(name="@", type="TXT", content="v=spf1 -all").contents == ('"v=spf1 -all"',)
    assert one(name="@", type="TXT", content='"v=DKIM1; " "p=AA"').contents == ('"v=DKIM1; " "p=AA"',)
    assert one(name="@", type="TXT", content="a" * 300).contents == (f'"{"a" * 255}" "{"a" * 45}"',)


@pytest.mark.parametrize(
    ("rtype", "data", "value"),
    [
        (
            "TLSA",
            {"usage": 2.0, "selector": 1, "matching_type": 1, "certificate": "AB" * 32},
            "2 1 1 " + "ab" * 32,
        ),
        ("CAA", {"flags": 0, "tag": "issue", "value": "ca.test"}, '0 issue "ca.test"'),
        ("DS", {"key_tag": 1, "algorithm": 13, "digest_type": 2, "digest": "AB" * 32}, "1 13 2 " + "ab" * 32),
        ("SRV", {"priority": 0, "weight": 1, "port": 993, "target": "imap.test"}, "0 1 993 imap.test."),
    ],
)
def test_structured_data(rtype: str, data: dict[str, Any], value: str) -> None:
    assert one(name="x", type=rtype, data=data).contents == (value,)


def test_records_of_one_name_and_type_are_one_set_with_the_least_ttl() -> None:
    result = translate(
        ZONE,
        [
            {"id": "1", "name": "a", "type": "A", "content": "192.0.2.1", "ttl": 60},
            {"id": "2", "name": "a", "type": "A", "content": "192.0.2.2", "ttl": 120},
        ],
    )
    assert result.rrsets == [RRset("a.example.test.", "A", 60, ("192.0.2.1", "192.0.2.2"))]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"type": "A", "content": "192.0.2.1", "proxied": True}, "no Cloudflare proxy"),
    ({"type": "A", "content": "192.0.2.1", "ttl": 5}, "allowed are 1"),
    ({"type": "A", "content": "x"}, "no valid A value"),
    ({"type": "A"}, "neither content nor data"),
    ({"type": "A", "data": {"x": 1}}, "this type takes content"),
    ({"type": "TLSA", "data": {"usage": 2}}, "data.selector is missing"),
    ({"type": "LOC", "content": "x"}, "not served here"),
    ({"type": "NS", "content": "ns.test"}, "zone's own name servers"),
]


@pytest.mark.parametrize(("record", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_what_cloudflare_would_refuse_is_refused(record: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        one(name="@", **record)


def test_the_same_record_twice_is_refused() -> None:
    record = {"name": "a", "type": "A", "content": "192.0.2.1"}
    with pytest.raises(RefusedError, match="identical record"):
        translate(ZONE, [record, record])


@given(
    rtype=st.sampled_from([*sorted(TYPES), "LUA", "x"]),
    content=st.none() | st.text(max_size=40),
    data=st.none()
    | st.dictionaries(st.sampled_from(["usage", "value", "flags", "tag"]), st.text() | st.integers()),
    ttl=st.integers(-5, 100_000) | st.none(),
)
def test_any_record_is_translated_or_refused(rtype: str, content: object, data: object, ttl: object) -> None:
    try:
        made = one(name="x", type=rtype, content=content, data=data, ttl=ttl)
    except RefusedError as error:
        assert str(error)
        return
    assert made.rtype in TYPES
    assert "\n" not in made.contents[0]
