"""What changed, by path, and what replaces."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mailinfra.sandbox.providers.diffs import Change, Rules, diff, project
from mailinfra.sandbox.providers.schema import Property, Schema, Sdk, Type
from mailinfra.sandbox.providers.values import UNKNOWN

SCHEMA = Schema(
    token="t:m/t:T",
    inputs={
        "name": Property(Type("string"), forces_new=True),
        "size": Property(Type("integer")),
        "tags": Property(Type("map", element=Type("string"))),
        "groups": Property(Type("list", element=Type("string"))),
        "policy": Property(Type("string")),
        "disk": Property(Type("object", name="Disk")),
    },
    outputs=frozenset({"name", "arn"}),
    objects={"Disk": {"kind": Property(Type("string"), forces_new=True), "size": Property(Type("integer"))}},
)
NO_RULES = Rules()


def test_nothing_changed():
    same = {"name": "a", "tags": {"x": "y"}, "groups": ["1"], "__defaults": ["name"]}
    assert diff(same, {**same, "__defaults": []}, SCHEMA, NO_RULES) == []


def test_paths_and_kinds():
    old = {"tags": {"a": "1", "b.c": "2"}, "groups": ["x", "y"], "size": 1}
    new = {"tags": {"a": "2", "d": "3"}, "groups": ["x"], "name": "n"}
    assert diff(old, new, SCHEMA, NO_RULES) == [
        Change("groups[1]", "groups", "delete", False),
        Change("name", "name", "add", True),
        Change("size", "size", "delete", False),
        Change("tags.a", "tags", "update", False),
        Change('tags["b.c"]', "tags", "delete", False),
        Change("tags.d", "tags", "add", False),
    ]


def test_what_forces_new():
    assert diff({"name": "a"}, {"name": "b"}, SCHEMA, NO_RULES) == [Change("name", "name", "update", True)]
    assert diff({"size": 1}, {"size": 2}, SCHEMA, Rules(replaces=frozenset({"size"}))) == [
        Change("size", "size", "update", True)
    ]
    assert diff({"name": "a"}, {"name": "b"}, SCHEMA, Rules(keeps=frozenset({"name"}))) == [
        Change("name", "name", "update", False)
    ]
    assert diff({"disk": {"kind": "a", "size": 1}}, {"disk": {"kind": "b", "size": 2}}, SCHEMA, NO_RULES) == [
        Change("disk.kind", "disk", "update", True),
        Change("disk.size", "disk", "update", False),
    ]


def test_an_unknown_value_is_a_change():
    assert diff({"name": "a"}, {"name": UNKNOWN}, SCHEMA, NO_RULES) == [
        Change("name", "name", "update", True)
    ]
    assert diff({"groups": ["a"]}, {"groups": [UNKNOWN]}, SCHEMA, NO_RULES)[0].path == "groups[0]"


def test_what_means_the_same():
    rules = Rules(unordered=frozenset({"groups"}), json=frozenset({"policy"}))
    assert diff({"groups": ["a", "b"]}, {"groups": ["b", "a"]}, SCHEMA, rules) == []
    assert diff({"groups": ["a", "b"]}, {"groups": ["b", "a"]}, SCHEMA, NO_RULES) != []
    assert diff({"policy": '{"a": 1, "b": 2}'}, {"policy": '{"b":2,"a":1}'}, SCHEMA, rules) == []
    assert diff({"policy": "{"}, {"policy": "{ "}, SCHEMA, rules) != []
    assert diff({}, {"tags": {}, "groups": []}, SCHEMA, NO_RULES) == []


def test_project_leaves_out_what_nobody_asked_for_but_not_tags():
    disk = SCHEMA.inputs["disk"].type
    assert project({"kind": "a", "size": 8}, {"kind": "b"}, disk, SCHEMA.objects) == {"kind": "a"}
    tags = SCHEMA.inputs["tags"].type
    assert project({"a": "1", "b": "2"}, {"a": "1"}, tags, SCHEMA.objects) == {"a": "1", "b": "2"}


INSTANCE = Sdk("pulumi_aws").schema("aws:ec2/instance:Instance")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(UNKNOWN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
INPUTS = st.dictionaries(st.sampled_from([*INSTANCE.inputs, "odd"]), VALUES, max_size=5)


@settings(max_examples=200)
@given(INPUTS, INPUTS)
def test_any_two_inputs_have_a_diff(old: dict, new: dict):
    assert diff(old, old, INSTANCE, NO_RULES) == []
    for change in diff(old, new, INSTANCE, NO_RULES):
        assert change.path.startswith(change.root)
