"""Tables of types as text."""

import pytest

from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers.schema import Sdk
from mailinfra_policy.movers import MOVERS
from mailinfra_policy.rules.residency_global import PLACELESS
from mailinfra_policy.stores import STORES
from mailinfra_policy.table import Mark, paths, rows, token

TABLE = """
s3 Bucket@a.b[*]? Object!<bucket
  @c=US
kms Key
"""


def test_a_table_is_read() -> None:
    assert [*rows(TABLE)] == [
        ("s3", "Bucket", (Mark("@", "a.b[*]", "?"),)),
        ("s3", "Object", (Mark("!", "", ""), Mark("<", "bucket", ""), Mark("@", "c", "=US"))),
        ("kms", "Key", ()),
    ]


def test_the_paths_of_a_sign() -> None:
    ((_, _, marks),) = rows("x Y@a@b<c")
    assert (paths(marks, "@"), paths(marks, "<"), paths(marks, "!")) == (("a", "b"), ("c",), ())


def test_a_token() -> None:
    assert token("aws", "s3", "BucketObject") == "aws:s3/bucketObject:BucketObject"


@pytest.mark.parametrize("text", ["s3 bucket", "s3 Bucket%x", "s3 @x", "s3 Bucket ?"])
def test_what_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a type or a mark"):
        [*rows(text)]


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_type_has_tags_where_the_table_says_so_and_only_there(cloud: str) -> None:
    # Google's own `tags` are no labels: they bind policies.
    kinds = ("tags",) if cloud == "aws" else ("labels", "userLabels", "resourceLabels")
    sdk = Sdk(f"pulumi_{cloud}", Paths.of("unit").cache)
    for table in (STORES, MOVERS):
        for name, row in table.items():
            if name.startswith(f"{cloud}:"):
                inputs = sdk.schema(name).inputs
                present = [tags for tags in kinds if tags in inputs]
                # Some have labels within: a database's settings, the snapshots of a schedule.
                allowed = {*present} if present else {"", *inputs}
                assert row.tags.split(".")[0] in allowed, name


def test_no_type_is_both_placeless_and_somewhere() -> None:
    assert not set(PLACELESS) & set(STORES)
