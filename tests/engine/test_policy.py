"""The policy pack under the real engine: what it stops, when, and what it is told by."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.recorded import ROOT, OwnStack, RecordedSandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

TOKENS = "exposure-metadata-tokens"
RUNTIME = {"name": "python", "options": {"toolchain": "pip"}}

PROGRAM = """
    import pulumi, pulumi_aws as aws

    config = pulumi.Config()
    options = pulumi.ResourceOptions(provider=aws.Provider("far", region="us-east-1"))
    source = aws.sqs.Queue("source", opts=options)
    # Not known before the queue is there.
    tokens = source.arn.apply(lambda _: config.require("tokens"))
    node = aws.ec2.LaunchTemplate("node", metadata_options={
        "http_tokens": tokens, "http_put_response_hop_limit": config.require_int("hops")})
    aws.sqs.Queue("after", tags={"of": node.arn})
"""

RULES = '''
    """A rule of the pack's and two of the test's own."""

    from mailinfra_policy.analyzer import serve
    from mailinfra_policy.rule import Control, Finding, Framework, Guard, Rule, Severity
    from mailinfra_policy.rules.exposure_metadata_tokens import RULE

    QUEUE, TEMPLATE = "aws:sqs/queue:Queue", "aws:ec2/launchTemplate:LaunchTemplate"

    def rule(id, **how):
        return Rule(id=id, title=f"About {id}", severity=Severity.LOW, why="It is a test.", mend="Mend it.",
            controls=(Control(Framework.SOC2, "CC6.1"),), covers={QUEUE: (Guard("region"),)}, **how)

    def raises(resource, context):
        raise KeyError("forgotten")

    def near(resource, context):
        region = resource.provider.props["region"]
        if region != "eu-central-1":
            yield Finding(resource, "region", region, "eu-central-1")

    def refers(context):
        """Each queue but the first names a template, found by what its tags were made from."""
        for queue in context.stack.of(QUEUE):
            if queue.get("tags.of") is not None and not context.stack.referred(queue, "tags.of", TEMPLATE):
                yield Finding(queue, "tags.of", "something else", "a template")

    serve([RULE, rule("raises", judge=raises), rule("near", judge=near), rule("refers", judge_stack=refers)])
'''

THEIRS = """
    from pulumi_policy import EnforcementLevel, PolicyPack, ResourceValidationPolicy

    def tokens(args, report):
        options = args.props.get("metadataOptions")
        if options and (options.get("httpTokens") != "required" or options["httpPutResponseHopLimit"] > 1):
            report("Instance metadata asks for a session token.")

    PolicyPack("theirs", policies=[ResourceValidationPolicy(
        name="tokens", description="The same rule.", validate=tokens, enforcement_level=EnforcementLevel.MANDATORY)])
"""


@dataclass(frozen=True)
class Case:
    """A small project, and the pack with the rules that a test asks for."""

    stack: OwnStack
    folder: Path

    def run(
        self,
        command: str,
        *rules: str,
        pack: Path | None = None,
        tokens: str = "required",
        hops: int = 1,
        path: str = "",
        levels: Mapping[str, str] | None = None,
        **config: Any,
    ) -> subprocess.CompletedProcess[str]:
        """`pulumi preview` or `pulumi up` with only those rules on; `config` is the pack's config document."""
        on = dict.fromkeys([*rules, "exception-expired"], "mandatory")
        (self.folder / "pack.json").write_text(
            json.dumps({"all": "disabled", **on, **(levels or {}), "config": config})
        )
        said = {"aws:region": "eu-central-1", "small:tokens": tokens, "small:hops": hops}
        file = self.folder / f"Pulumi.{self.stack.stack}.yaml"
        kept = yaml.safe_load(file.read_text()) if file.exists() else {}
        file.write_text(yaml.safe_dump({**kept, "config": said}))
        env = self.stack.environment
        if path:
            env["PATH"] = f"{path}{os.pathsep}{env['PATH']}"
        options = ["--stack", self.stack.stack, "--policy-pack", str(pack or self.folder / "pack")]
        if pack is None or pack.name != "theirs":
            options += ["--policy-pack-config", str(self.folder / "pack.json")]
        if command == "up":
            options += ["--yes", "--skip-preview"]
        return self.stack.engine.run([command, *options], env=env, cwd=self.folder, check=False)

    def refused(self, *arguments: Any, **options: Any) -> str:
        """A run that must fail; what it said."""
        done = self.run(*arguments, **options)
        assert done.returncode != 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def passed(self, *arguments: Any, **options: Any) -> str:
        """A run that must not fail; what it said."""
        done = self.run(*arguments, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def made(self) -> set[str]:
        """The names of what the cloud was asked to make."""
        return {
            resource["urn"].rsplit("::", 1)[1]
            for resource in json.loads(self.stack.pulumi("stack", "export", "--stack", self.stack.stack))[
                "deployment"
            ].get("resources", [])
            if not resource["type"].startswith("pulumi:")
        }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "small", "runtime": RUNTIME}))
    (folder / "__main__.py").write_text(textwrap.dedent(PROGRAM))
    for name, source in (("pack", RULES), ("theirs", THEIRS)):
        (folder / name).mkdir()
        (folder / name / "PulumiPolicy.yaml").write_text(yaml.safe_dump({"runtime": RUNTIME}))
        (folder / name / "__main__.py").write_text(textwrap.dedent(source).lstrip())
    return folder


@pytest.fixture(scope="module")
def case(recorded_sandbox: RecordedSandbox, project: Path) -> Case:
    """A stack of which nothing is ever made."""
    return Case(recorded_sandbox.stack(project, "never"), project)


@pytest.fixture
def fresh(recorded_sandbox: RecordedSandbox, project: Path, request: pytest.FixtureRequest) -> Case:
    """A stack of this test's own."""
    return Case(recorded_sandbox.stack(project, request.node.name.removeprefix("test_")), project)


NODE = f"{TOKENS}  (aws:ec2:LaunchTemplate: node)"
ACCEPTED = {
    "rule": TOKENS,
    "resource": "aws:ec2/launchTemplate:LaunchTemplate::node",
    "reason": "An old agent there.",
    "expires": "2099-12-31",
}


def test_an_unknown_value_is_decided_before_its_resource_is_made(fresh: Case) -> None:
    said = fresh.passed("preview", TOKENS, "refers", tokens="optional")
    assert f"[advisory] [severity: high]  {NODE}" in said
    assert "metadataOptions.httpTokens: found not known before the update" in said
    assert "decides before this resource is made" in said
    assert "refers" not in said, "a reference to what is not there yet is followed by what it was made from"
    said = fresh.refused("up", TOKENS, tokens="optional")
    assert f"[mandatory] [severity: high]  {NODE}" in said
    assert 'metadataOptions.httpTokens: found "optional"; allowed: "required"' in said
    assert fresh.made() == {"source"}, "neither the resource nor what depends on it"
    assert "[mandatory]" not in fresh.passed("up", TOKENS, "refers")
    assert fresh.made() == {"source", "node", "after"}


@pytest.fixture(scope="module")
def refused(case: Case) -> str:
    """What a preview says that has four reasons to fail."""
    return case.refused("preview", TOKENS, "raises", "near", hops=64, unknown="violation")


def test_an_unknown_value_may_be_a_violation_at_once(refused: str) -> None:
    assert f"[mandatory] [severity: high]  {NODE}" in refused
    assert "metadataOptions.httpTokens: found not known before the update" in refused
    assert "[advisory]" not in refused


def test_a_rule_that_raises_is_a_violation(refused: str) -> None:
    for name in ("source", "after"):
        assert f"[mandatory] [severity: low]  raises  (aws:sqs:Queue: {name})" in refused
    assert "the rule itself failed (KeyError: 'forgotten')" in refused


def test_the_region_of_an_explicit_provider_is_seen(refused: str) -> None:
    assert "near  (aws:sqs:Queue: source)" in refused
    assert "region: found us-east-1; allowed: eu-central-1" in refused
    assert "near  (aws:sqs:Queue: after)" not in refused


def test_an_unknown_value_does_not_hide_what_is_known(refused: str, case: Case) -> None:
    """Of the very same rule, Pulumi's own library makes an advice as soon as it meets the unknown value."""
    assert "metadataOptions.httpPutResponseHopLimit: found 64; allowed: 1 to 1 hop" in refused
    said = case.passed("preview", hops=64, pack=case.folder / "theirs")
    assert "[advisory]  tokens  (aws:ec2:LaunchTemplate: node)" in said
    assert "[mandatory]" not in said


@pytest.fixture(scope="module")
def excused(case: Case) -> str:
    """What a preview says whose four reasons to fail are all excused."""
    near = {**ACCEPTED, "rule": "near", "resource": "aws:sqs/queue:Queue::so*"}
    return case.passed(
        "preview",
        "raises",
        "near",
        hops=64,
        levels={TOKENS: "advisory"},
        rules={"raises": {"level": "off"}},
        exceptions=[near],
    )


def test_a_rule_has_a_level(excused: str) -> None:
    assert f"[advisory] [severity: high]  {NODE}" in excused
    assert "httpPutResponseHopLimit: found 64" in excused
    assert "raises" not in excused


def test_an_exception_is_respected(excused: str) -> None:
    assert "near" not in excused


def test_an_expired_exception_stops_everything(fresh: Case) -> None:
    said = fresh.refused("up", TOKENS, exceptions=[{**ACCEPTED, "expires": "2020-01-31"}])
    assert "[mandatory] [severity: high]  exception-expired" in said
    assert f"{TOKENS} on {ACCEPTED['resource']} (An old agent there.): found 2020-01-31" in said
    assert fresh.made() == set()


def test_a_wrong_config_is_refused_by_its_places(case: Case) -> None:
    said = case.refused(
        "preview",
        levels={"tls-listner": "advisory"},
        zones={"eu": {"countries": ["DE"]}, "us": {"countries": ["US", "DE"]}},
        zone="mars",
        exceptions=[{**ACCEPTED, "resource": "*"}, {**ACCEPTED, "rule": "x"}],
    )
    assert "5 problems in the policy pack's config:" in said
    assert "tls-listner: found tls-listner; allowed: config, exception-expired, all, or a rule: expo" in said
    assert "config.zones.us.countries: found DE; allowed: a country that is not in zone eu" in said
    assert "config.zone: found mars; allowed: one of eu, us" in said
    assert "config.exceptions[0].resource: found *; allowed: a pattern of `type::name`" in said
    assert "config.exceptions[1].rule: found x; allowed: one of exposure-metadata-tokens, near" in said
    assert "LaunchTemplate" not in said, "no resource was judged"


def test_a_wrong_shape_of_the_config_is_refused_by_its_places(case: Case) -> None:
    said = case.refused(
        "preview",
        zones={"eu": {"country": "DE"}},
        tls={"public": "1.1"},
        exceptions=[{**ACCEPTED, "expires": "tomorrow"}],
    )
    assert "config: zones.eu: Additional property country is not allowed" in said
    assert "config: tls.public: tls.public must be one of the following" in said
    assert "config: exceptions.0.expires: Does not match format 'date'" in said
    assert "LaunchTemplate" not in said, "no resource was judged"


def test_the_pack_of_this_repository(case: Case) -> None:
    assert f"[mandatory] [severity: high]  {NODE}" in case.refused(
        "preview", TOKENS, hops=64, pack=ROOT / "policy"
    )


def test_the_pack_of_the_installed_package(case: Case, venv_dir: Path, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, sources)
    for name in ("mailinfra", "components", "policy"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*build, "--wheel-dir", tmp_path], cwd=sources, check=True)
    paths = {"base": str(venv_dir), "platbase": str(venv_dir)}
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(sysconfig.get_path("purelib", "venv", paths))
    python = venv_dir / "bin" / "python"
    asked = [python, "-m", "mailinfra_policy"]
    pack = Path(
        subprocess.run(asked, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()
    )
    assert pack.is_relative_to(venv_dir)
    said = case.refused("preview", TOKENS, hops=64, pack=pack, path=str(python.parent))
    assert f"[mandatory] [severity: high]  {NODE}" in said
