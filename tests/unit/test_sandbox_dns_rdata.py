"""Names and values: what is valid passes in one form, all else is refused."""

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.sandbox.dns.rdata import (
    TYPES,
    RefusedError,
    ancestors,
    canonical,
    fqdn,
    is_below,
    text_chunks,
    text_strings,
    ttl_of,
)


def octets(zone_file_text: str) -> bytes:
    """What a TXT value says on the wire, strings put together."""
    rdata = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.TXT, zone_file_text)
    return b"".join(rdata.strings)


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("Example.TEST", "example.test."),
        ("example.test.", "example.test."),
        ("\\052.example.test", "*.example.test."),
        ("_25._tcp.mx1.example.test", "_25._tcp.mx1.example.test."),
    ],
)
def test_names_have_one_form(given_name: str, expected: str) -> None:
    assert fqdn(given_name) == expected


@pytest.mark.parametrize(
    "name", ["", "  ", "a..b", "a" * 64 + ".test", "a b.test", 'a".test', "a;b", "ä.test", "x\ny"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(RefusedError, match="no domain name"):
        fqdn(name)


def test_a_name_is_below_itself_and_its_parents() -> None:
    assert is_below("a.example.test.", "example.test.")
    assert is_below("example.test.", "example.test.")
    assert is_below("example.test.", ".")
    assert not is_below("badexample.test.", "example.test.")
    assert ancestors("a.b.test.") == ["b.test.", "test."]


@pytest.mark.parametrize(
    ("rtype", "value", "expected"),
    [
        ("A", "192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:DB8:0::1", "2001:db8::1"),
        ("MX", "10 mx1.example.test", "10 mx1.example.test."),
        ("CAA", '0 issue "ca.test"', '0 issue "ca.test"'),
        ("DS", "12345 13 2 " + "AB" * 32, "12345 13 2 " + "ab" * 32),
    ],
)
def test_values_have_one_form(rtype: str, value: str, expected: str) -> None:
    assert canonical(rtype, value, "x") == expected


@pytest.mark.parametrize(
    ("rtype", "value"),
    [
        ("A", "192.0.2.1 192.0.2.2"),
        ("A", "2001:db8::1"),
        ("A", "300.1.1.1"),
        ("AAAA", "192.0.2.1"),
        ("MX", "mx1.example.test"),
        ("MX", "70000 mx1.example.test"),
        ("TLSA", "2 1 1 zz"),
        ("CNAME", "a b"),
        ("TXT", '"unfinished'),
        ("A", "192.0.2.1\n"),
    ],
)
def test_a_value_that_is_not_valid_for_its_type_is_refused(rtype: str, value: str) -> None:
    with pytest.raises(RefusedError, match="where it is"):
        canonical(rtype, value, "where it is")


@given(rtype=st.sampled_from(sorted(TYPES)), value=st.text(max_size=200))
def test_any_text_is_a_value_or_refused_and_the_form_is_stable(rtype: str, value: str) -> None:
    try:
        once = canonical(rtype, value, "x")
    except RefusedError:
        return
    assert canonical(rtype, once, "x") == once
    assert "\n" not in once


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=1500))
def test_any_text_becomes_strings_of_at_most_255_octets(text: str) -> None:
    written = text_chunks(text)
    rdata = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.TXT, written)
    assert all(len(s) <= 255 for s in rdata.strings)
    assert octets(written) == text.encode()


@given(st.lists(st.binary(max_size=255), min_size=1, max_size=4))
def test_quoted_strings_are_read_as_a_zone_file_reads_them(strings: list[bytes]) -> None:
    quoted = " ".join('"' + "".join(f"\\{b:03d}" for b in s) + '"' for s in strings)
    assert octets(text_strings(quoted, "x", quoted_only=True)) == b"".join(strings)


def test_strings_that_no_provider_splits_are_refused() -> None:
    with pytest.raises(RefusedError, match="256 octets; at most 255"):
        text_strings('"' + "a" * 256 + '"', "x", quoted_only=True)
    with pytest.raises(RefusedError, match="in double quotes"):
        text_strings("v=spf1 -all", "x", quoted_only=True)
    assert text_strings("v=spf1 -all", "x", quoted_only=False) == '"v=spf1" "-all"'


@pytest.mark.parametrize("ttl", [-1, 2**31, "x", None, True, "1.5"])
def test_a_ttl_is_a_number_of_seconds(ttl: object) -> None:
    with pytest.raises(RefusedError, match="TTL"):
        ttl_of(ttl, "x")
