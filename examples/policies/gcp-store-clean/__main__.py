"""A bucket, a database and a machine in one region, each with the same key of one's own."""

import pulumi
import pulumi_gcp as gcp

labels = {"residency-zone": "eu", "managed-by": "data-team", "data-class": "documents"}
project = gcp.organizations.get_project_output()

keyring = gcp.kms.KeyRing("keyring", name="keyring-example", location="europe-west3")
key = gcp.kms.CryptoKey(
    "key",
    name="crypto-key-example",
    key_ring=keyring.id,
    rotation_period="7776000s",
    destroy_scheduled_duration="2592000s",
    labels=labels,
    opts=pulumi.ResourceOptions(protect=True),
)

# Who read what, and who is told when the key is about to go.
gcp.projects.IAMAuditConfig(
    "project",
    project=project.project_id,
    service="allServices",
    audit_log_configs=[{"log_type": "ADMIN_READ"}, {"log_type": "DATA_READ"}, {"log_type": "DATA_WRITE"}],
)
basic = gcp.monitoring.NotificationChannel(
    "basic", display_name="Operators", type="email", labels={"email_address": "operators@example.com"}
)
gcp.monitoring.AlertPolicy(
    "keys",
    display_name="A key is destroyed or disabled",
    combiner="OR",
    conditions=[
        {
            "display_name": "destroyed or disabled",
            "condition_matched_log": {
                "filter": 'protoPayload.serviceName="cloudkms.googleapis.com" AND '
                '(protoPayload.methodName:"DestroyCryptoKeyVersion" OR '
                'protoPayload.methodName:"UpdateCryptoKeyVersion")'
            },
        }
    ],
    alert_strategy={"notification_rate_limit": {"period": "300s"}},
    notification_channels=[basic.id],
)

documents = gcp.storage.Bucket(
    "documents",
    name="documents.example.com",
    location="EUROPE-WEST3",
    uniform_bucket_level_access=True,
    public_access_prevention="enforced",
    versioning={"enabled": True},
    encryption={"default_kms_key_name": key.id},
    labels=labels,
)

network = gcp.compute.Network("network", name="private-network", auto_create_subnetworks=False)
subnetwork = gcp.compute.Subnetwork(
    "subnetwork",
    name="private-subnetwork",
    ip_cidr_range="10.2.0.0/16",
    region="europe-west3",
    network=network.id,
    private_ip_google_access=True,
    log_config={
        "aggregation_interval": "INTERVAL_10_MIN",
        "flow_sampling": 0.5,
        "metadata": "INCLUDE_ALL_METADATA",
    },
)
gcp.compute.Firewall(
    "web",
    name="web",
    network=network.id,
    allows=[{"protocol": "tcp", "ports": ["443"]}],
    source_ranges=["0.0.0.0/0"],
    target_tags=["roles-web"],
)

gcp.sql.DatabaseInstance(
    "main",
    name="main-instance",
    database_version="POSTGRES_15",
    region="europe-west3",
    encryption_key_name=key.id,
    settings={
        "tier": "db-custom-2-7680",
        "deletion_protection_enabled": True,
        "ip_configuration": {
            "ipv4_enabled": False,
            "private_network": network.self_link,
            "ssl_mode": "TRUSTED_CLIENT_CERTIFICATE_REQUIRED",
        },
        "user_labels": labels,
    },
    deletion_protection=True,
)

account = gcp.serviceaccount.Account(
    "app", account_id="app-machine", display_name="The application's machine"
)
gcp.compute.Instance(
    "app",
    name="my-instance",
    machine_type="n2-standard-2",
    zone="europe-west3-a",
    boot_disk={
        "initialize_params": {"image": "debian-cloud/debian-12", "labels": labels},
        "kms_key_self_link": key.id,
    },
    network_interfaces=[{"subnetwork": subnetwork.id}],
    service_account={"email": account.email, "scopes": ["cloud-platform"]},
    deletion_protection=True,
    metadata={"enable-oslogin": "TRUE", "block-project-ssh-keys": "TRUE"},
    tags=["roles-web"],
    labels=labels,
)
