"""A program is run with no engine, and what it declares is taken down."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from mailinfra.errors import ConfigError
from mailinfra_policy.resource import Resource
from mailinfra_policy.sources.loaded import Loaded, SourceError
from mailinfra_policy.values import UNKNOWN
from tests.check_helpers import line_of, load_program, run_program, write_program

pytestmark = pytest.mark.timeout(300)

WIDE = """
    import json
    import pulumi
    import pulumi_aws as aws

    import library

    config = pulumi.Config()
    here = aws.get_region()
    who = aws.get_caller_identity()
    image = aws.ec2.get_ami(most_recent=True, owners=["099720109477"])
    vpc = aws.ec2.get_vpc(default=True)
    ireland = aws.Provider("ireland", region="eu-west-1", default_tags={"tags": {"residency-zone": "eu"}})

    key = aws.kms.Key("key", deletion_window_in_days=30)
    bucket = aws.s3.Bucket("mail", bucket="mail-example")
    far = aws.s3.Bucket("far", opts=pulumi.ResourceOptions(provider=ireland, protect=True))
    policy = aws.iam.get_policy_document_output(
        statements=[{"actions": ["s3:GetObject"], "resources": [bucket.arn.apply(lambda arn: arn + "/*")]}]
    )
    aws.s3.BucketPolicy("readers", bucket=bucket.id, policy=policy.json)
    node = aws.ec2.Instance(
        "node",
        ami=image.id,
        instance_type="t3.small",
        subnet_id=vpc.id,
        metadata_options={"http_tokens": "optional"},
        tags={"who": who.account_id, "where": here.region, "network": f"in {vpc.cidr_block}"},
    )
    aws.route53.Record(
        "name", zone_id="Z1", name="node", type="A", ttl=60, records=[node.public_ip]
    )
    aws.ssm.Parameter("given", type="SecureString", value=config.require_secret("password"))
    aws.ssm.Parameter("plain", type="String", value=pulumi.Output.secret("opened"))
    library.Store("store", key.arn)
    aws.sns.Topic("alarms", kms_master_key_id=key.key_id)
"""
LIBRARY = """
    import pulumi
    import pulumi_aws as aws


    class Store(pulumi.ComponentResource):
        def __init__(self, name, key, opts=None):
            super().__init__("shop:index:Store", name, None, opts)
            self.table = aws.dynamodb.Table(
                f"{name}-table",
                hash_key="id",
                attributes=[{"name": "id", "type": "S"}],
                server_side_encryption={"enabled": True, "kms_key_arn": key},
                opts=pulumi.ResourceOptions(parent=self),
            )
            self.table.stream_arn.apply(lambda _: None)
            self.register_outputs({})
"""
CONFIG = {"aws:region": "eu-central-1", "shop:password": {"secure": "v1:abc"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("check") / "shop"


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return run_program(folder, WIDE, config=CONFIG, files={"library.py": LIBRARY})


def named(loaded: Loaded, name: str) -> Resource:
    (found,) = [item for item in loaded.stack.resources if item.name == name]
    return found


def test_nothing_of_it_keeps_it_from_being_judged(loaded: Loaded) -> None:
    assert [gap for gap in loaded.gaps if gap.blocking] == []
    assert len(loaded.stack.resources) == 13


def test_inputs_have_the_names_of_the_sdk_and_the_regions_of_the_provider(loaded: Loaded) -> None:
    node = named(loaded, "node")
    assert node.type == "aws:ec2/instance:Instance"
    assert node.get("metadataOptions.httpTokens") == "optional"
    assert node.get("region") == "eu-central-1"
    assert node.provider and node.provider.props["region"] == "eu-central-1"


def test_an_explicit_provider_is_the_one_of_its_resources(loaded: Loaded) -> None:
    far = named(loaded, "far")
    assert far.provider and far.provider.name == "ireland"
    assert far.provider.props["defaultTags"] == {"tags": {"residency-zone": "eu"}}
    assert far.get("region") == "eu-west-1"
    assert far.tag("residency-zone") == "eu"
    assert far.protect


def test_data_sources_that_need_no_cloud_are_answered(loaded: Loaded) -> None:
    tags = named(loaded, "node").tags
    assert (tags["where"], tags["who"]) == ("eu-central-1", "000000000000")
    assert str(named(loaded, "node").get("ami")).startswith("ami-")


def test_what_only_the_cloud_knows_is_unknown_and_so_is_all_that_is_made_of_it(loaded: Loaded) -> None:
    node = named(loaded, "node")
    assert node.get("subnetId") is UNKNOWN
    assert node.tags["network"] is UNKNOWN
    assert named(loaded, "name").get("records[0]") is UNKNOWN
    assert "aws:ec2/getVpc:getVpc" in {gap.place for gap in loaded.gaps}


def test_identities_that_follow_from_inputs_are_known(loaded: Loaded) -> None:
    assert '"arn:aws:s3:::mail-example/*"' in str(named(loaded, "readers").get("policy"))
    assert named(loaded, "readers").get("bucket") == "mail-example"


def test_references_lead_to_what_they_name(loaded: Loaded) -> None:
    (key,) = loaded.stack.referred(named(loaded, "alarms"), "kmsMasterKeyId", "aws:kms/key:Key")
    assert key.name == "key"
    path = "serverSideEncryption.kmsKeyArn"
    assert loaded.stack.referred(named(loaded, "store-table"), path) == [key]
    assert named(loaded, "readers").property_dependencies["bucket"] == (named(loaded, "mail").urn,)


def test_a_secret_of_the_config_is_unknown_and_one_of_the_program_is_opened(loaded: Loaded) -> None:
    assert named(loaded, "given").get("value") is UNKNOWN
    assert named(loaded, "plain").get("value") == "opened"


def test_a_component_is_the_parent_of_its_resources(loaded: Loaded) -> None:
    table = named(loaded, "store-table")
    assert table.parent == named(loaded, "store").urn
    assert table.urn.endswith("::shop:index:Store$aws:dynamodb/table:Table::store-table")


def test_each_resource_has_the_line_that_made_it(loaded: Loaded, folder: Path) -> None:
    node, table = named(loaded, "node"), named(loaded, "store-table")
    assert node.source and node.source.line == line_of(folder, "node = aws.ec2.Instance")
    assert Path(node.source.file) == folder / "__main__.py"
    assert table.source and Path(table.source.file).name == "library.py"


def test_a_resource_of_a_foreign_component_has_the_line_of_the_program(tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "library.py").write_text("\n".join(line[4:] for line in LIBRARY.splitlines()))
    source = (
        f"import sys\nsys.path.insert(0, {str(outside)!r})\nimport library\n\nlibrary.Store('store', None)\n"
    )
    loaded = run_program(tmp_path / "shop", source)
    table = named(loaded, "store-table")
    assert table.source and (Path(table.source.file).name, table.source.line) == ("__main__.py", 5)


def test_transforms_of_the_stack_are_applied(tmp_path: Path) -> None:
    source = """
        import pulumi
        import pulumi_aws as aws

        def tagged(args):
            if args.type_ == "aws:s3/bucket:Bucket":
                return pulumi.ResourceTransformResult(
                    props={**args.props, "tags": {"residency-zone": "eu"}}, opts=args.opts
                )

        pulumi.runtime.register_resource_transform(tagged)
        aws.s3.Bucket("mail")
    """
    assert named(run_program(tmp_path, source), "mail").tags == {"residency-zone": "eu"}


def test_keys_are_stood_in_for_by_keys_of_the_declared_kind(tmp_path: Path) -> None:
    source = """
        import pulumi_aws as aws
        import pulumi_gcp as gcp

        key = aws.kms.Key("dkim", key_usage="SIGN_VERIFY", customer_master_key_spec="RSA_2048")
        public = aws.kms.get_public_key_output(key_id=key.arn)
        aws.route53.Record(
            "dkim", zone_id="Z1", name="s._domainkey", type="TXT", ttl=60, records=[public.public_key]
        )
        ring = gcp.kms.KeyRing("ring", location="europe-west3")
        sign = gcp.kms.CryptoKey(
            "sign",
            key_ring=ring.id,
            purpose="ASYMMETRIC_SIGN",
            version_template={"algorithm": "EC_SIGN_P256_SHA256", "protection_level": "HSM"},
        )
        version = gcp.kms.get_kms_crypto_key_version_output(crypto_key=sign.id)
        aws.ssm.Parameter("sign", type="String", value=version.public_keys.apply(lambda keys: keys[0].pem))
    """
    loaded = run_program(tmp_path, source)
    (record,) = loaded.stack.of("aws:route53/record:Record")
    assert len(str(record.get("records[0]"))) == 392  # 294 bytes of a 2048-bit key, in base64
    (parameter,) = loaded.stack.of("aws:ssm/parameter:Parameter")
    assert "BEGIN PUBLIC KEY" in str(parameter.get("value"))
    assert not any(gap.blocking for gap in loaded.gaps)


def test_a_fixed_address_is_one_address(tmp_path: Path) -> None:
    source = """
        import pulumi_aws as aws
        import pulumi_gcp as gcp

        ours = aws.ec2.Eip("ours")
        theirs = gcp.compute.Address("theirs", name="theirs")
        for name, address in {"a": ours.public_ip, "b": theirs.address}.items():
            aws.route53.Record(name, zone_id="Z1", name=name, type="A", ttl=60, records=[address])
    """
    loaded = run_program(tmp_path, source)
    found = {str(item.get("records[0]")) for item in loaded.stack.of("aws:route53/record:Record")}
    assert len(found) == 2 and all(ip_address(address).is_global for address in found)


BROKEN = {
    "an exception": ("1 / 0", "ZeroDivisionError: division by zero"),
    "its own word": ("import pulumi\nraise pulumi.RunError('no such zone')", "no such zone"),
    "an exit": ("raise SystemExit(3)", "the program ended itself: 3"),
    "a syntax error": ("def", "SyntaxError"),
    "a missing module": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "a wrong argument": (
        "import pulumi_aws as aws\naws.s3.Bucket('b', nme='x')",
        "unexpected keyword argument",
    ),
    "two of one name": (
        "import pulumi_aws as aws\naws.s3.Bucket('b')\naws.s3.Bucket('b')",
        "Duplicate resource URN",
    ),
    "the network": (
        "import urllib.request\nurllib.request.urlopen('http://www.example.test/')",
        "a check has no network",
    ),
    "the engine": ("import subprocess\nsubprocess.run(['pulumi', 'version'])", "starts the pulumi command"),
}


@pytest.mark.parametrize(("source", "said"), BROKEN.values(), ids=BROKEN)
def test_a_program_that_fails_says_so_itself(tmp_path: Path, source: str, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        run_program(tmp_path, source)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("the program failed: ") and said in lines[0]
    assert len(lines) < 20


def test_the_trace_of_a_failure_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        run_program(tmp_path, "def zone():\n    return {}['eu']\n\nzone()\n")
    assert '__main__.py", line 2' in str(caught.value)
    assert "runner.py" not in str(caught.value)


def test_a_failure_names_what_the_cloud_was_asked(tmp_path: Path) -> None:
    source = "import pulumi_aws as aws\nraise ValueError(aws.ec2.get_subnets().ids[7])"
    with pytest.raises(SourceError) as caught:
        run_program(tmp_path, source)
    assert "aws:ec2/getSubnets:getSubnets" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "place", "reason"),
    [
        (
            "import pulumi_aws as aws\naws.ec2.Instance('n', metadata_options={'httpTokenz': 'required'})",
            "__main__.py:2: aws:ec2/instance:Instance::n",
            "metadataOptions.httpTokenz: unknown property; did you mean 'httpTokens'?",
        ),
        (
            "import pulumi\nclass C(pulumi.ComponentResource): pass\n"
            "C('other:index:Thing', 'thing', {}, None, True)",
            "other:index:Thing::thing",
            "a component of another package, whose resources only an engine can ask for",
        ),
        (
            "import pulumi\nclass New(pulumi.CustomResource): pass\nNew('aws:new/thing:Thing', 'thing', {})",
            "aws:new/thing:Thing::thing",
            "has no such resource type",
        ),
        ("import pulumi\npulumi.log.error('all is lost')", "the program", "reported an error: all is lost"),
    ],
)
def test_what_cannot_be_judged_is_said_with_its_place(
    tmp_path: Path, source: str, place: str, reason: str
) -> None:
    (gap,) = [gap for gap in run_program(tmp_path, source).gaps if gap.blocking]
    assert gap.place.endswith(place) and reason in gap.reason


def test_a_resource_that_is_only_read_is_not_the_programs(tmp_path: Path) -> None:
    loaded = run_program(tmp_path, "import pulumi_aws as aws\naws.s3.Bucket.get('there', 'somebody-elses')")
    assert loaded.stack.of("aws:s3/bucket:Bucket") == []
    (gap,) = loaded.gaps
    assert gap.place.endswith("aws:s3/bucket:Bucket::there") and not gap.blocking


def test_the_outputs_of_another_stack_are_unknown(tmp_path: Path) -> None:
    source = """
        import pulumi
        import pulumi_aws as aws

        other = pulumi.StackReference("organization/network/prod")
        aws.ec2.Subnet("inner", vpc_id=other.require_output("vpc"), cidr_block="10.0.0.0/24")
    """
    assert named(run_program(tmp_path, source), "inner").get("vpcId") is UNKNOWN


def test_another_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"runtime: found nodejs; allowed: python"):
        run_program(tmp_path, "", project={"runtime": "nodejs"})


def test_a_stack_that_there_is_not_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such stack; allowed: dev"):
        load_program(write_program(tmp_path, ""), "prod")


def test_the_main_of_the_project_is_run_in_its_folder(tmp_path: Path) -> None:
    write_program(tmp_path, "raise SystemExit(1)", project={"main": "infra/"})
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "names.py").write_text("NAME = open('name.txt').read()\n")
    (tmp_path / "infra" / "name.txt").write_text("mail")
    (tmp_path / "infra" / "__main__.py").write_text(
        "import names, pulumi_aws as aws\naws.s3.Bucket(names.NAME)\n"
    )
    assert named(load_program(tmp_path, "dev"), "mail").type == "aws:s3/bucket:Bucket"


def test_credentials_do_not_reach_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("GREETING", "hello")
    source = """
        import os
        import pulumi_aws as aws

        aws.s3.Bucket("b", tags={"key": os.getenv("AWS_SECRET_ACCESS_KEY", "none"), "hi": os.environ["GREETING"]})
    """
    assert named(run_program(tmp_path, source), "b").tags == {"key": "none", "hi": "hello"}


def test_config_arrives_as_the_engine_hands_it_on(tmp_path: Path) -> None:
    config = {
        "aws:region": "eu-west-1",
        "aws:defaultTags": {"tags": {"residency-zone": "eu"}},
        "shop:count": 2,
        "shop:on": True,
        "shop:names": ["a", "b"],
    }
    source = """
        import pulumi
        import pulumi_aws as aws

        config = pulumi.Config()
        assert (config.require_int("count"), config.require_bool("on")) == (2, True)
        for name in config.require_object("names"):
            aws.s3.Bucket(name, tags={"size": config.require("size")})
    """
    project = {"config": {"size": {"type": "string", "default": "small"}}}
    loaded = run_program(tmp_path, source, config=config, project=project)
    assert named(loaded, "a").tags == {"residency-zone": "eu", "size": "small"}
    assert named(loaded, "b").get("region") == "eu-west-1"
