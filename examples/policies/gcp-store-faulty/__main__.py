"""A bucket, a database and a machine as quick starts make them."""

import pulumi_gcp as gcp

labels = {"residency-zone": "eu", "managed-by": "data-team", "data-class": "documents"}

keyring = gcp.kms.KeyRing("keyring", name="keyring-example", location="europe-west3")
example_key = gcp.kms.CryptoKey("example-key", name="crypto-key-example", key_ring=keyring.id, labels=labels)

static = gcp.storage.Bucket(
    "static-site",
    name="image-store.example.com",
    location="EU",
    force_destroy=True,
    website={"main_page_suffix": "index.html", "not_found_page": "404.html"},
    labels=labels,
)
gcp.storage.BucketIAMMember(
    "public", bucket=static.name, role="roles/storage.objectViewer", member="allUsers"
)

instance = gcp.sql.DatabaseInstance(
    "main",
    name="main-instance",
    database_version="POSTGRES_15",
    region="us-central1",
    settings={
        "tier": "db-f1-micro",
        "ip_configuration": {
            "ipv4_enabled": True,
            "ssl_mode": "ALLOW_UNENCRYPTED_AND_ENCRYPTED",
            "authorized_networks": [{"name": "everyone", "value": "0.0.0.0/0"}],
        },
        "user_labels": labels,
    },
    deletion_protection=False,
)

gcp.compute.Firewall(
    "default",
    name="test-firewall",
    network="default",
    allows=[{"protocol": "icmp"}, {"protocol": "tcp", "ports": ["80", "8080", "1000-2000"]}],
    source_ranges=["0.0.0.0/0"],
)
gcp.compute.Instance(
    "default",
    name="my-instance",
    machine_type="n2-standard-2",
    zone="europe-west3-a",
    boot_disk={"initialize_params": {"image": "debian-cloud/debian-12"}},
    network_interfaces=[{"network": "default", "access_configs": [{}]}],
    metadata_startup_script="echo hi > /test.txt",
    labels=labels,
)
