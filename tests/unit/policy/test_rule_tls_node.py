"""Postfix and Dovecot keep their TLS floors in the user-data of servers."""

import base64
import gzip
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest
import yaml

from mailinfra.fleet import Cloud
from mailinfra.node.bootstrap import compressed, render
from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_node import RULE
from mailinfra_policy.values import UNKNOWN
from tests.node_helpers import node_spec
from tests.policy_helpers import changed, found, places, resource, settings

MAIN = """\
smtpd_tls_security_level = may
smtpd_tls_protocols = >=TLSv1.2
smtpd_tls_mandatory_protocols = >=TLSv1.3
smtp_tls_security_level = dane
smtp_tls_protocols = >=TLSv1.2
smtp_tls_mandatory_protocols = >=TLSv1.2
"""
DOVECOT = "ssl = required\nssl_min_protocol = TLSv1.3\n"
SCRIPT = f"""#!/bin/bash
apt-get install -y \\
  postfix dovecot-imapd
cat >/etc/postfix/main.cf <<'EOF'
{MAIN}EOF
cat <<EOF | tee /etc/dovecot/conf.d/99-tls.conf
{DOVECOT}EOF
"""
POSTCONF = "#!/bin/sh\napt-get install -y postfix\n" + "".join(
    f"postconf -e '{line}'\n" for line in MAIN.splitlines()
)
NONE = "#!/bin/sh\napt-get install -y postfix\n"
CLOUD_CONFIG = "#cloud-config\n" + yaml.safe_dump(
    {
        "packages": ["postfix"],
        "write_files": [
            {
                "path": "/etc/postfix/main.cf",
                "encoding": "gz+b64",
                "content": base64.b64encode(gzip.compress(MAIN.encode())).decode(),
            }
        ],
    }
)


def encoded(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def multipart(*texts: tuple[str, str]) -> str:
    message = MIMEMultipart()
    for kind, text in texts:
        message.attach(MIMEText(text, kind))
    return message.as_string()


def instance(script: Any, name: str = "node") -> Resource:
    return resource("aws:ec2/instance:Instance", name, {"userData": script})


NODE = instance(SCRIPT)
GCP = {"metadata": {"startup-script": SCRIPT, "enable-oslogin": "TRUE"}}
GOOD = (
    [NODE],
    [resource("aws:ec2/instance:Instance", "zipped", {"userDataBase64": encoded(SCRIPT)})],
    [resource("aws:ec2/spotInstanceRequest:SpotInstanceRequest", "spot", {"userData": POSTCONF})],
    [
        resource(
            "aws:ec2/launchConfiguration:LaunchConfiguration", "old", {"userDataBase64": encoded(POSTCONF)}
        )
    ],
    [resource("aws:ec2/launchTemplate:LaunchTemplate", "template", {"userData": encoded(CLOUD_CONFIG)})],
    [
        resource(
            "aws:ec2/spotFleetRequest:SpotFleetRequest",
            "fleet",
            {"launchSpecifications": [{"userData": SCRIPT}]},
        )
    ],
    [resource("aws:imagebuilder/imageRecipe:ImageRecipe", "recipe", {"userDataBase64": encoded(SCRIPT)})],
    [resource("aws:lightsail/instance:Instance", "small", {"userData": "#!/bin/sh\necho hello\n"})],
    [resource("gcp:compute/instance:Instance", "gcp", GCP)],
    [resource("gcp:compute/instance:Instance", "gcp", {"metadataStartupScript": SCRIPT})],
    [resource("gcp:compute/instanceTemplate:InstanceTemplate", "gcp", GCP)],
    [resource("gcp:compute/regionInstanceTemplate:RegionInstanceTemplate", "gcp", GCP)],
    [resource("gcp:compute/instanceFromTemplate:InstanceFromTemplate", "gcp", GCP)],
    [resource("gcp:compute/instanceFromMachineImage:InstanceFromMachineImage", "gcp", GCP)],
    [resource("gcp:compute/projectMetadata:ProjectMetadata", "gcp", GCP)],
    [
        resource(
            "gcp:compute/projectMetadataItem:ProjectMetadataItem",
            "gcp",
            {"key": "startup-script", "value": SCRIPT},
        )
    ],
)

ROLES = [["mx"], ["submission"], ["egress"], ["imap", "pop3"], ["mailbox"], ["mx", "egress", "submission"]]


@pytest.mark.parametrize("roles", ROLES, ids="+".join)
def test_our_own_nodes_keep_the_floors(roles: list[str]) -> None:
    script = render(node_spec(roles, clients_tls="1.3", internet_tls="1.2"))
    zipped = base64.b64encode(compressed(script)).decode()
    node = resource("aws:ec2/instance:Instance", "node", {"userDataBase64": zipped})
    assert found(RULE, [node]) == []
    script = render(node_spec(roles, Cloud.GCP, clients_tls="1.3", internet_tls="1.2"))
    node = resource("gcp:compute/instance:Instance", "node", {"metadata": {"startup-script": script}})
    assert found(RULE, [node]) == []


@pytest.mark.parametrize("roles", [["submission"], ["imap", "pop3"], ["mailbox"]], ids="+".join)
def test_our_own_nodes_with_older_clients_are_found(roles: list[str]) -> None:
    node = instance(render(node_spec(roles, clients_tls="1.2", internet_tls="1.2")))
    assert places(RULE, [node]) == [("node", "userData")]
    assert found(RULE, [node], settings(tls={"clients": "1.2"})) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "smtpd_tls_protocols = >=TLSv1.2",
            "smtpd_tls_protocols = >=TLSv1.1",
            "smtpd_tls_protocols = >=TLSv1.1",
        ),
        ("smtpd_tls_protocols = >=TLSv1.2\n", "", "Postfix without smtpd_tls_protocols"),
        ("smtpd_tls_protocols = >=TLSv1.2", "smtpd_tls_protocols = >=TLSv1.2x", ">=TLSv1.2x"),
        ("smtpd_tls_protocols = >=TLSv1.2", "smtpd_tls_protocols = !SSLv3", "!SSLv3"),
        (
            "mandatory_protocols = >=TLSv1.3",
            "mandatory_protocols = >=TLSv1.2",
            "smtpd_tls_mandatory_protocols",
        ),
        (
            "smtp_tls_security_level = dane",
            "smtp_tls_security_level = none",
            "smtp_tls_security_level = none",
        ),
        ("smtpd_tls_security_level = may\n", "", "Postfix without smtpd_tls_security_level"),
        ("smtp_tls_mandatory_protocols = >=TLSv1.2\n", "", "Postfix without smtp_tls_mandatory_protocols"),
        ("ssl_min_protocol = TLSv1.3", "ssl_min_protocol = TLSv1.2", "ssl_min_protocol = TLSv1.2"),
        ("ssl_min_protocol = TLSv1.3\n", "", "Dovecot without ssl_min_protocol"),
        ("ssl = required", "ssl = yes", "ssl = yes"),
        ("ssl = required\n", "", "Dovecot without ssl"),
        ("ssl = required", "ssl = required\ndisable_plaintext_auth = no", "disable_plaintext_auth = no"),
    ],
)
def test_a_lowered_floor_is_said(old: str, new: str, said: str) -> None:
    assert old in SCRIPT
    (item,) = found(RULE, [instance(SCRIPT.replace(old, new))])
    assert said in item.finding.found and item.finding.path == "userData"


MASTER = SCRIPT + "cat >/etc/postfix/master.cf <<'EOF'\n{}\nEOF\n"


@pytest.mark.parametrize(
    "service",
    [
        "smtp inet n - n - - smtpd",
        "127.0.0.1:10025 inet n - n - - smtpd\n  -o smtpd_tls_security_level=none",
        "submission inet n - n - - smtpd\n  -o smtpd_tls_security_level=encrypt",
        "smtps inet n - n - - smtpd -o smtpd_tls_wrappermode=yes",
        "scan unix - - n - - smtp\n  -o smtp_tls_security_level=none\n"
        "smtp inet n - n - - smtpd\n  -o content_filter=scan:[127.0.0.1]:10024",
        "2525 inet n - n - - smtpd\n  -o { smtpd_tls_mandatory_protocols = >=TLSv1.3 }",
    ],
)
def test_services_that_keep_the_floor(service: str) -> None:
    assert found(RULE, [instance(MASTER.format(service))]) == []


@pytest.mark.parametrize(
    "service",
    [
        "smtp inet n - n - - smtpd\n  -o smtpd_tls_security_level=none",
        "submission inet n - n - - smtpd",
        "submission inet n - n - - smtpd\n  -o smtpd_tls_security_level=may",
        "465 inet n - n - - smtpd\n  -o smtpd_tls_wrappermode=yes\n  -o smtpd_tls_mandatory_protocols=>=TLSv1.2",
        "2525 inet n - n - - smtpd\n  -o { smtpd_tls_mandatory_protocols = >=TLSv1.2 }",
        "relay unix - - n - - smtp\n  -o smtp_tls_security_level=none",
        "scan unix - - n - - smtp\n  -o smtp_tls_security_level=none\n"
        "smtp inet n - n - - smtpd\n  -o content_filter=scan:[127.0.0.1.example.test]:10024",
        "smtp unix - - n - - smtp\n  -o smtp_tls_protocols=>=TLSv1",
    ],
)
def test_services_that_lower_it(service: str) -> None:
    (item,) = found(RULE, [instance(MASTER.format(service))])
    assert "master.cf" in item.finding.found


@pytest.mark.parametrize(
    "script",
    [
        NONE,
        "#!/bin/sh\nyum install -y dovecot\n",
        "#cloud-config\npackages: [postfix]\n",
        "#cloud-config\npackages:\n  - [dovecot-imapd, 1.0]\n",
        "#cloud-config\nruncmd:\n  - [apt-get, install, -y, postfix]\n",
        "#cloud-config\nruncmd:\n  - [sh, -c, 'apt-get -y install postfix']\n",
        multipart(("x-shellscript", NONE), ("cloud-config", "packages: [jq]")),
        multipart(("cloud-config", "packages: [postfix]")),
        base64.b64encode(NONE.encode()).decode(),
        POSTCONF.replace(">=TLSv1.3", ">=TLSv1.1"),
        "#!/bin/sh\ndnf install dovecot\nsed -i 's/^#*ssl_min_protocol.*/ssl_min_protocol = TLSv1/' "
        "/etc/dovecot/conf.d/10-ssl.conf\necho 'ssl = required' >> /etc/dovecot/conf.d/10-ssl.conf\n",
    ],
)
def test_mail_without_a_floor_is_found_however_it_is_wrapped(script: str) -> None:
    assert places(RULE, [instance(script)]) == [("node", "userData")]


@pytest.mark.parametrize(
    "script",
    [
        multipart(("x-shellscript", SCRIPT)),
        base64.b64encode(SCRIPT.encode()).decode(),
        CLOUD_CONFIG,
        POSTCONF,
        "#!/bin/sh\ndnf install dovecot\nsed -i 's/^#*ssl_min_protocol.*/ssl_min_protocol = TLSv1.3/' "
        "/etc/dovecot/conf.d/10-ssl.conf\necho 'ssl = required' >> /etc/dovecot/conf.d/10-ssl.conf\n",
        f"#!/bin/sh\napt-get install postfix\necho {encoded(MAIN)} | base64 -d | gunzip > /etc/postfix/main.cf\n",
        NONE + "postconf -e inet_interfaces=loopback-only smtp_tls_security_level=encrypt "
        "'smtp_tls_mandatory_protocols=>=TLSv1.2'\n",
        "#!/bin/sh\n# no postfix here\napt-get install nginx\n",
    ],
)
def test_floors_are_found_however_they_are_wrapped(script: str) -> None:
    assert found(RULE, [instance(script)]) == []


@pytest.mark.parametrize(
    "props",
    [
        {"userData": None, "userDataBase64": "not base64!"},
        {"userData": None, "userDataBase64": base64.b64encode(gzip.compress(SCRIPT.encode())[:-9]).decode()},
        {"userData": None, "userDataBase64": base64.b64encode(bytes(range(256))).decode()},
        {"userData": "#include\nhttps://o.test/script\n"},
        {"userData": "#cloud-config\n: : :\n- x"},
    ],
)
def test_what_cannot_be_read_is_found(props: dict[str, Any]) -> None:
    (item,) = found(RULE, [changed(NODE, **props)])
    assert "cannot be read" in item.finding.found and not item.finding.unknown


def test_a_script_elsewhere_is_found() -> None:
    node = resource("gcp:compute/instance:Instance", "n", {"metadata": {"startup-script-url": "gs://b/x"}})
    assert places(RULE, [node]) == [("n", "metadata.startup-script-url")]
    item = resource(
        "gcp:compute/projectMetadataItem:ProjectMetadataItem",
        "n",
        {"key": "startup-script-url", "value": "gs://b/x"},
    )
    assert places(RULE, [item]) == [("n", "value")]


@pytest.mark.parametrize("props", [{"userData": UNKNOWN}, {"userData": None, "userDataBase64": UNKNOWN}])
def test_unknown_is_found(props: dict[str, Any]) -> None:
    (item,) = found(RULE, [changed(NODE, **props)])
    assert item.finding.unknown


def test_a_server_without_user_data_and_other_metadata_are_no_matter() -> None:
    other = {"key": "enable-oslogin", "value": UNKNOWN}
    assert found(RULE, [resource("aws:ec2/instance:Instance")]) == []
    assert found(RULE, [resource("gcp:compute/projectMetadataItem:ProjectMetadataItem", "x", other)]) == []
