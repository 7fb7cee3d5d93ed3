"""The milter's config file: read, or refused with the place that is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailinfra.dkim.config import read

SIGNER = {"kind": "aws", "key": "alias/dkim", "region": "eu-central-1"}
KEY = {"selector": "s1", "domains": ["Example.test"], "signer": SIGNER}
GOOD: dict[str, Any] = {"listen": "unix:/run/mailinfra/milter.sock", "keys": [KEY]}


def load(folder: Path, config: Any) -> Any:
    path = folder / "milter.json"
    path.write_text(json.dumps(config))
    return read(path)


def test_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert (config.require_auth, config.match_sender, config.deadline, config.life) == (False, False, 20.0, 0)
    identity = config.identities["example.test"]
    assert (identity.domain, identity.selector) == ("example.test", "s1")
    assert identity.pool.signer.region == "eu-central-1"


def test_several_domains_and_keys(tmp_path: Path) -> None:
    other = {**KEY, "selector": "s2", "domains": ["xn--bcher-kva.test", "c.test"]}
    config = load(tmp_path, {**GOOD, "keys": [KEY, other]})
    assert set(config.identities) == {"example.test", "xn--bcher-kva.test", "bücher.test", "c.test"}
    assert config.identities["bücher.test"].domain == "xn--bcher-kva.test"
    assert config.identities["c.test"].pool is config.identities["bücher.test"].pool


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], r"config: found \[\]; allowed: an object"),
        ({**GOOD, "key": 1}, r"config\.key: unknown; allowed: listen, "),
        ({"keys": [KEY]}, r"config\.listen: missing"),
        ({**GOOD, "require_auth": "yes"}, r"config\.require_auth: found 'yes'; allowed: bool"),
        ({**GOOD, "deadline": 0}, r"config\.deadline: found 0; allowed: a positive float"),
        ({**GOOD, "life": True}, r"config\.life: found True"),
        ({**GOOD, "keys": []}, r"config\.keys: no domain"),
        ({**GOOD, "keys": [KEY, 3]}, r"config\.keys\[1\]: found 3"),
        ({**GOOD, "keys": [KEY, KEY]}, r"config\.keys\[1\]\.domains\[0\]: example\.test has a key already"),
        ({**GOOD, "keys": [{**KEY, "domains": ["a.test", 1]}]}, r"config\.keys\[0\]\.domains\[1\]: found 1"),
        ({**GOOD, "keys": [{**KEY, "selector": "a b"}]}, r"config\.keys\[0\]\.selector: found 'a b'"),
        (
            {**GOOD, "keys": [{**KEY, "domains": ["a;b.test"]}]},
            r"config\.keys\[0\]\.domains\[0\]: found 'a;b",
        ),
        (
            {**GOOD, "keys": [{**KEY, "domains": ["bücher.test"]}]},
            r"config\.keys\[0\]\.domains\[0\]: found 'b",
        ),
        (
            {**GOOD, "keys": [{**KEY, "signer": {"kind": "x"}}]},
            r"keys\[0\]\.signer: kind is 'x'; allowed: aws",
        ),
        (
            {**GOOD, "keys": [{**KEY, "signer": {"kind": "aws"}}]},
            r"signer: aws: missing 2 required keyword-only arguments: 'key' and 'region'",
        ),
        ({**GOOD, "keys": [{**KEY, "signer": {**SIGNER, "x": 1}}]}, r"signer: aws: .* keyword argument 'x'"),
    ],
)
def test_refused_with_its_place(tmp_path: Path, config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(tmp_path, config)


def test_not_json(tmp_path: Path) -> None:
    path = tmp_path / "milter.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="property name"):
        read(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(KEY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, *KEY]), inner),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([None, *GOOD, "deadline", "header_bytes", *KEY]), values)
def test_any_config_is_read_or_refused(tmp_path: Path, place: str | None, value: Any) -> None:
    if place is None:
        config = value
    elif place in KEY:
        config = {**GOOD, "keys": [{**KEY, place: value}]}
    else:
        config = {**GOOD, place: value}
    try:
        load(tmp_path, config)
    except ValueError as error:
        assert str(error)
