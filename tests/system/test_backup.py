"""The vault with everything real: mail goes in over both clouds' identities, and comes back, whatever happens."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from mailinfra.sandbox.lifecycle import Sandbox
from tests.system.copies import AMAZON, GOOGLE, USERS, Copies, fresh
from tests.system.fleet import UP_SECONDS

pytestmark = [pytest.mark.system, pytest.mark.timeout(UP_SECONDS)]


@pytest.fixture(scope="module")
def copies(fleet_sandbox: Sandbox) -> Copies:
    return Copies(fleet_sandbox)


def count(text: str, word: str) -> int:
    """The sum of the numbers that come before a word in a report."""
    return sum(int(number) for number in re.findall(rf"(\d+) {word}", text))


@pytest.mark.parametrize("region", [AMAZON, GOOGLE])
def test_mail_goes_into_the_other_clouds_vault_and_is_verified(copies: Copies, region: str) -> None:
    assert copies.vault(region)["cloud"] == ("gcp" if region == AMAZON else "aws")
    copies.save(region, fresh(), fresh())
    status = copies.backup(region)
    assert status["error"] == ""
    assert status["verified"] >= 2
    assert status["last_verified"] >= status["last_success"]
    # Mail that was restored to be compared does not stay.
    assert copies.run(region, "test -e /var/lib/mailinfra/backup/sample")[0] != 0
    told = copies.stores[region].get("backup/status/store/store-1.json")
    assert json.loads(told.body) == status


def test_the_schedule_makes_backups_by_itself(copies: Copies) -> None:
    text = copies.shell(
        AMAZON, "systemctl is-active mailinfra-backup.timer; systemctl list-timers mailinfra-backup.timer"
    )
    assert text.startswith("active")
    assert copies.run(AMAZON, "systemctl is-failed mailinfra-backup mailinfra-restore")[0] != 0


@pytest.mark.parametrize("region", [AMAZON, GOOGLE])
def test_one_message_comes_back_once(copies: Copies, region: str) -> None:
    marker, other = fresh(), fresh()
    copies.save(region, marker, other)
    copies.backup(region)
    copies.expunge(region, marker)
    copies.expunge(region, other)
    options = ("--mailbox", USERS[region], "--message", f"<{marker}@x>")
    assert count(copies.restore(*options), "would be restored") == 1
    assert copies.found(region, marker) == []
    assert count(copies.restore(*options, "--apply"), "restored") == 1
    assert copies.found(region, marker) == ["INBOX"]
    assert copies.found(region, other) == []
    assert count(copies.restore(*options, "--apply"), "restored") == 0
    assert copies.found(region, marker) == ["INBOX"]


def test_a_mailbox_comes_back_as_it_was_and_what_is_newer_stays(copies: Copies) -> None:
    old, filed, later, user = fresh(), fresh(), fresh(), USERS[AMAZON]
    folder = f"Päper [{fresh()}]*"
    copies.save(AMAZON, old)
    copies.save(AMAZON, filed, folder=folder)
    copies.shell(AMAZON, f"doveadm flags add -u {user} '\\Flagged important' mailbox '*' subject {filed}")
    at = copies.backup(AMAZON)["last_success"]
    point = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # Now the old one is moved, the folder is deleted, and something new comes.
    copies.shell(AMAZON, f"doveadm mailbox delete -u {user} '{folder}'")
    copies.shell(AMAZON, f"doveadm move -u {user} Archive mailbox INBOX subject {old}")
    time.sleep(1.1)
    copies.save(AMAZON, later)
    copies.backup(AMAZON)
    # The newest copy has it no more, the one before has.
    assert count(copies.restore("--mailbox", user, "--apply"), "restored") == 0
    text = copies.restore("--mailbox", user, "--at", point, "--apply")
    assert count(text, "restored") == 1
    assert at in text
    assert copies.found(AMAZON, filed) == [folder]
    assert copies.found(AMAZON, old) == ["Archive"]
    assert copies.found(AMAZON, later) == ["INBOX"]
    flags = copies.shell(AMAZON, f"doveadm fetch -u {user} flags mailbox '*' subject {filed}")
    assert "\\Flagged" in flags
    assert "important" in flags
    assert count(copies.restore("--mailbox", user, "--at", point, "--apply"), "restored") == 0


def test_a_domain_and_a_region_come_back(copies: Copies) -> None:
    markers = {region: fresh() for region in USERS}
    for region, marker in markers.items():
        copies.save(region, marker)
        copies.backup(region)
        copies.expunge(region, marker)
    text = copies.restore("--region", GOOGLE, "--apply")
    assert copies.found(GOOGLE, markers[GOOGLE]) == ["INBOX"]
    assert copies.found(AMAZON, markers[AMAZON]) == []
    assert f"store-1.{GOOGLE}" in text
    for region in ("us-east-1", "us-central1"):
        copies.backup(region)
    copies.restore("--domain", "example.test", "--apply")
    assert copies.found(AMAZON, markers[AMAZON]) == ["INBOX"]
    assert copies.found(GOOGLE, markers[GOOGLE]) == ["INBOX"]


def test_a_restore_that_is_killed_is_finished(copies: Copies) -> None:
    marker, user, many = fresh(), USERS[AMAZON], 1200
    local = user.partition("@")[0]
    folder = f"/srv/mail/example.test/{local}/Maildir/.Bulk"
    copies.shell(
        AMAZON,
        f"doveadm mailbox create -u {user} Bulk || true\n"
        f"for n in {{1..{many}}}; do printf 'Message-ID: <{marker}-%s@x>\\nSubject: {marker}\\n\\n%s\\n' $n $n "
        f">{folder}/cur/17954$((10000+n)).M${{n}}P9.store-1:2,S; done; chown -R vmail:vmail {folder}",
    )
    assert len(copies.found(AMAZON, marker)) == many
    copies.backup(AMAZON)
    copies.expunge(AMAZON, marker)
    machine = copies.machine(AMAZON)
    killer = (
        "import subprocess, time\n"
        f"command = ['doveadm', 'search', '-u', '{user}', 'mailbox', 'Bulk', 'all']\n"
        "end = time.monotonic() + 120\n"
        "while time.monotonic() < end:\n"
        "    if subprocess.run(command, capture_output=True).stdout.count(b'\\n') >= 100:\n"
        "        subprocess.run(['systemctl', 'kill', '-s', 'KILL', 'mailinfra-restore'], check=True)\n"
        "        break\n"
        "    time.sleep(0.05)\n"
        "else:\n"
        "    raise SystemExit('nothing came back to kill it at')\n"
    )
    copies.shell(
        AMAZON, f"cat >/run/killer.py <<'END'\n{killer}END\nsystemd-run --unit=killer python3 /run/killer.py"
    )
    text = copies.restore("--mailbox", user, "--apply")
    assert "done" in text
    restarts = copies.shell(AMAZON, "systemctl show -P NRestarts mailinfra-restore").strip()
    assert int(restarts) >= 1, (machine, text)
    assert len(copies.found(AMAZON, marker)) == many
    assert copies.run(AMAZON, "test -e /srv/mail/.restore")[0] != 0
    copies.expunge(AMAZON, marker)


@contextmanager
def without_policies(copies: Copies, role: str) -> Iterator[None]:
    """While an IAM role may do nothing."""
    iam = copies.aws("iam", AMAZON)
    kept = {
        name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
    }
    assert kept
    for name in kept:
        iam.delete_role_policy(RoleName=role, PolicyName=name)
    try:
        yield
    finally:
        for name, document in kept.items():
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))


def test_a_vault_that_refuses_is_said_and_the_next_run_is_fine(copies: Copies) -> None:
    good = copies.backup(GOOGLE)
    role = copies.vault(GOOGLE)["access"]["role"].rpartition("/")[2]
    with without_policies(copies, role):
        refused = copies.backup(GOOGLE)
    assert "403" in refused["error"]
    assert refused["last_success"] == good["last_success"]
    after = copies.backup(GOOGLE)
    assert (after["error"], after["generation"]) == ("", good["generation"])
    assert after["last_success"] > good["last_success"]


def test_nodes_cannot_take_anything_out_of_a_vault(copies: Copies) -> None:
    copies.backup(GOOGLE)
    copies.backup(AMAZON)
    script = (
        "cd $(ls -d /usr/local/lib/mailinfra/*/ | head -1) && python3 - <<'END'\n"
        "from mailinfra.node.agent.node import load\n"
        "from mailinfra.node.agent import google\n"
        "from mailinfra.node.backup import vault\n"
        "from mailinfra.node.backup.access import access\n"
        "from pathlib import Path\n"
        "node = load()\n"
        "known = vault.parse(Path('/var/lib/mailinfra/backup/vault.json').read_bytes())\n"
        "bucket = access(node, known).bucket\n"
        "name = sorted(bucket.sizes(f'{node.region}/'))[0]\n"
        "print('sees', name)\n"
        "try:\n"
        "    if known.cloud == 'aws':\n"
        "        bucket.client.delete_object(Bucket=known.bucket, Key=name)\n"
        "    else:\n"
        "        bucket.call('DELETE', '/storage/v1', {'key': name})\n"
        "    print('deleted')\n"
        "except Exception as error:\n"
        "    print('refused', error)\n"
        "print('still', len(bucket.read(name)))\n"
        "END"
    )
    for region, answer in ((GOOGLE, "AccessDenied"), (AMAZON, "403")):
        text = copies.shell(region, script)
        assert "refused" in text, text
        assert answer in text
        assert "still" in text


def test_a_repository_that_is_damaged_is_followed_by_a_new_one(copies: Copies) -> None:
    good = copies.backup(GOOGLE)
    known = copies.vault(GOOGLE)
    s3 = copies.aws("s3", known["region"])
    listed = s3.list_objects_v2(Bucket=known["bucket"], Prefix=f"{GOOGLE}/store-1/{good['generation']}/data/")
    # An operator may write over what is there: S3 keeps the locked version below.
    for item in listed["Contents"]:
        s3.put_object(Bucket=known["bucket"], Key=item["Key"], Body=b"x" * item["Size"])
    status = copies.backup(GOOGLE)
    assert status["generation"] > good["generation"]
    assert any("damaged" in note for note in status["notes"])
    after = copies.backup(GOOGLE)
    assert (after["error"], after["generation"]) == ("", status["generation"])
    marker = fresh()
    copies.save(GOOGLE, marker)
    copies.backup(GOOGLE)
    copies.expunge(GOOGLE, marker)
    copies.restore("--mailbox", USERS[GOOGLE], "--message", f"<{marker}@x>", "--apply")
    assert copies.found(GOOGLE, marker) == ["INBOX"]


def test_the_password_is_nowhere_but_in_its_file(copies: Copies) -> None:
    copies.backup(AMAZON)
    script = (
        "for file in /var/lib/mailinfra/backup/passwords/*; do [[ $(stat -c %a $file) == 600 ]]; done\n"
        'pattern=$(cat $file); cat /proc/[0-9]*/cmdline | grep -acF -- "$pattern" || true\n'
        'journalctl --no-pager -o cat | grep -cF -- "$pattern" || true\n'
        'grep -rlF -- "$pattern" /var/lib/mailinfra /etc /var/log 2>/dev/null\n'
    )
    lines = copies.shell(AMAZON, script).split()
    # The two programs that look for it are the ones that have it on their command line.
    assert lines[1] == "0"
    assert [line for line in lines[2:] if "passwords/" not in line] == []


def test_a_foreign_zone_is_refused_before_anything_is_done(copies: Copies) -> None:
    s3 = copies.aws("s3", AMAZON)
    outputs = copies.sandbox.stack.outputs()["regions"]

    def requests() -> int:
        answer = s3.list_objects_v2(Bucket=outputs["us-east-1"]["bucket"], Prefix="restore/")
        return int(answer["KeyCount"])

    before = requests()
    text = copies.restore("--mailbox", USERS[AMAZON], "--to", "us-east-1", "--apply", code=1)
    assert "may not leave the zone eu" in text
    assert "nothing was done" in text
    assert requests() == before


def test_the_replicas_region_restores_what_the_home_cannot(copies: Copies) -> None:
    routes = copies.stores[AMAZON].get("directory/routes.jsonl").body
    lines = [json.loads(line) for line in routes.splitlines()]
    if not any(line.get("replica") for line in lines):
        pytest.skip("the directory names no replicas")
    marker, user = fresh(), USERS[AMAZON]
    copies.save(AMAZON, marker)
    copies.backup(AMAZON)
    copies.expunge(AMAZON, marker)
    copies.restore("--mailbox", user, "--message", f"<{marker}@x>", "--to", GOOGLE, "--apply")
    assert copies.found(GOOGLE, marker, user) == ["INBOX"]
