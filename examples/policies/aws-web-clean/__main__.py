"""A web application: a bucket behind a CDN, a load balancer, a database, and the traces of what is done to them."""

import json

import pulumi
import pulumi_aws as aws

tags = {"residency-zone": "eu", "managed-by": "web-team", "data-class": "web"}
logs = {**tags, "data-class": "logs"}
account = aws.get_caller_identity_output().account_id

WRITERS = ["cloudtrail.amazonaws.com", "delivery.logs.amazonaws.com"]


def key_policy(account_id: str) -> str:
    """The account administers the key; the services that write traces and tell of them encrypt under it."""
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{account_id}:root"},
                    "Action": "kms:*",
                    "Resource": "*",
                },
                {
                    "Effect": "Allow",
                    "Principal": {"Service": [*WRITERS, "events.amazonaws.com"]},
                    "Action": ["kms:GenerateDataKey*", "kms:Decrypt", "kms:DescribeKey"],
                    "Resource": "*",
                    "Condition": {"StringEquals": {"aws:SourceAccount": account_id}},
                },
            ],
        }
    )


storage = aws.kms.Key(
    "storage",
    description="What is stored",
    enable_key_rotation=True,
    deletion_window_in_days=30,
    policy=account.apply(key_policy),
    tags=tags,
)


def tls_only(arn: str, *allowed: dict[str, object]) -> str:
    """A bucket's policy: nothing without TLS, nothing below TLS 1.2, and what is allowed."""
    both = [arn, f"{arn}/*"]
    refused = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": both}
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {**refused, "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
                {**refused, "Condition": {"NumericLessThan": {"s3:TlsVersion": "1.2"}}},
                *allowed,
            ],
        }
    )


def written_by(services: list[str], arn: str, account_id: str) -> list[dict[str, object]]:
    """Statements that let services of the account write their logs."""
    return [
        {
            "Effect": "Allow",
            "Principal": {"Service": services},
            "Action": "s3:PutObject",
            "Resource": f"{arn}/AWSLogs/{account_id}/*",
            "Condition": {"StringEquals": {"aws:SourceAccount": account_id}},
        }
    ]


def private_bucket(name: str, marks: dict[str, str], key: aws.kms.Key | None = None) -> aws.s3.Bucket:
    """A bucket that is shut to the public and encrypted."""
    bucket = aws.s3.Bucket(name, bucket=f"{name}.example.com", object_lock_enabled=marks is logs, tags=marks)
    aws.s3.BucketPublicAccessBlock(
        name,
        bucket=bucket.id,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
    )
    by_default = (
        {"sse_algorithm": "aws:kms", "kms_master_key_id": key.arn} if key else {"sse_algorithm": "AES256"}
    )
    aws.s3.BucketServerSideEncryptionConfiguration(
        name,
        bucket=bucket.id,
        rules=[{"apply_server_side_encryption_by_default": by_default, "bucket_key_enabled": True}],
    )
    if marks is logs:
        aws.s3.BucketObjectLockConfiguration(
            name, bucket=bucket.id, rule={"default_retention": {"mode": "COMPLIANCE", "days": 400}}
        )
    return bucket


# The traces: CloudTrail with the bucket's data events, flow logs, access logs.
trail_bucket = private_bucket("trail", logs, storage)
trail_policy = aws.s3.BucketPolicy(
    "trail",
    bucket=trail_bucket.id,
    policy=pulumi.Output.all(trail_bucket.arn, account).apply(
        lambda args: tls_only(
            args[0],
            *written_by(WRITERS, args[0], args[1]),
            {
                "Effect": "Allow",
                "Principal": {"Service": WRITERS},
                "Action": "s3:GetBucketAcl",
                "Resource": args[0],
                "Condition": {"StringEquals": {"aws:SourceAccount": args[1]}},
            },
        )
    ),
)
aws.cloudtrail.Trail(
    "trail",
    s3_bucket_name=trail_bucket.id,
    kms_key_id=storage.arn,
    is_multi_region_trail=False,
    include_global_service_events=True,
    enable_log_file_validation=True,
    event_selectors=[
        {
            "read_write_type": "All",
            "include_management_events": True,
            "data_resources": [{"type": "AWS::S3::Object", "values": ["arn:aws:s3"]}],
        }
    ],
    tags=logs,
    opts=pulumi.ResourceOptions(depends_on=[trail_policy]),
)
operators = aws.sns.Topic("operators", kms_master_key_id=storage.id, tags=tags)
aws.sns.TopicPolicy(
    "operators",
    arn=operators.arn,
    policy=pulumi.Output.all(operators.arn, account).apply(
        lambda args: json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"Service": "events.amazonaws.com"},
                        "Action": "sns:Publish",
                        "Resource": args[0],
                        "Condition": {"StringEquals": {"aws:SourceAccount": args[1]}},
                    },
                    {
                        "Effect": "Deny",
                        "Principal": "*",
                        "Action": "sns:Publish",
                        "Resource": args[0],
                        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                    },
                ],
            }
        )
    ),
)
keys = aws.cloudwatch.EventRule(
    "keys",
    event_pattern=json.dumps(
        {"source": ["aws.kms"], "detail": {"eventName": ["DisableKey", "ScheduleKeyDeletion"]}}
    ),
)
aws.cloudwatch.EventTarget("keys", rule=keys.name, arn=operators.arn)

# The network.
main = aws.ec2.Vpc("main", cidr_block="10.0.0.0/16", tags=tags)
aws.ec2.FlowLog(
    "main",
    vpc_id=main.id,
    traffic_type="ALL",
    log_destination_type="s3",
    log_destination=trail_bucket.arn,
    tags=logs,
)
subnets = [
    aws.ec2.Subnet(
        f"app-{zone}",
        vpc_id=main.id,
        cidr_block=f"10.0.{index}.0/24",
        availability_zone=f"eu-central-1{zone}",
        tags=tags,
    )
    for index, zone in enumerate("ab")
]

# The bucket and its CDN.
example = private_bucket("documents", tags, storage)
aws.s3.BucketPolicy("documents", bucket=example.id, policy=example.arn.apply(tls_only))
oac = aws.cloudfront.OriginAccessControl(
    "documents",
    origin_access_control_origin_type="s3",
    signing_behavior="always",
    signing_protocol="sigv4",
)
certificate = aws.acm.Certificate(
    "front_end", domain_name="www.example.com", validation_method="DNS", key_algorithm="EC_prime256v1"
)
s3_distribution = aws.cloudfront.Distribution(
    "s3_distribution",
    aliases=["www.example.com"],
    origins=[
        {
            "domain_name": example.bucket_regional_domain_name,
            "origin_access_control_id": oac.id,
            "origin_id": "documents",
        }
    ],
    enabled=True,
    default_cache_behavior={
        "allowed_methods": ["GET", "HEAD"],
        "cached_methods": ["GET", "HEAD"],
        "target_origin_id": "documents",
        "forwarded_values": {"query_string": False, "cookies": {"forward": "none"}},
        "viewer_protocol_policy": "https-only",
    },
    restrictions={"geo_restriction": {"restriction_type": "none"}},
    viewer_certificate={
        "acm_certificate_arn": certificate.arn,
        "minimum_protocol_version": "TLSv1.3_2025",
        "ssl_support_method": "sni-only",
    },
)

# The load balancer. Its access logs can be written under S3's own keys only: see policy.yaml.
access = private_bucket("access-logs", logs)
aws.s3.BucketPolicy(
    "access-logs",
    bucket=access.id,
    policy=pulumi.Output.all(access.arn, account).apply(
        lambda args: tls_only(
            args[0], *written_by(["logdelivery.elasticloadbalancing.amazonaws.com"], args[0], args[1])
        )
    ),
)
lb_sg = aws.ec2.SecurityGroup(
    "lb_sg",
    vpc_id=main.id,
    ingress=[{"protocol": "tcp", "from_port": 443, "to_port": 443, "cidr_blocks": ["0.0.0.0/0"]}],
    tags={**tags, "roles": "web"},
)
front_end = aws.lb.LoadBalancer(
    "front_end",
    load_balancer_type="application",
    security_groups=[lb_sg.id],
    subnets=[subnet.id for subnet in subnets],
    access_logs={"bucket": access.id, "enabled": True},
    enable_deletion_protection=True,
    drop_invalid_header_fields=True,
)
target = aws.lb.TargetGroup("front_end", port=443, protocol="HTTPS", vpc_id=main.id)
aws.lb.Listener(
    "front_end",
    load_balancer_arn=front_end.arn,
    port=443,
    protocol="HTTPS",
    ssl_policy="ELBSecurityPolicy-TLS13-1-3-2021-06",
    certificate_arn=certificate.arn,
    default_actions=[{"type": "forward", "target_group_arn": target.arn}],
)

# The database.
db_sg = aws.ec2.SecurityGroup(
    "db_sg",
    vpc_id=main.id,
    ingress=[{"protocol": "tcp", "from_port": 5432, "to_port": 5432, "cidr_blocks": ["10.0.0.0/16"]}],
    tags=tags,
)
group = aws.rds.SubnetGroup("default", subnet_ids=[subnet.id for subnet in subnets])
parameters = aws.rds.ParameterGroup(
    "default",
    family="postgres16",
    parameters=[
        {"name": "rds.force_ssl", "value": "1"},
        {"name": "ssl_min_protocol_version", "value": "TLSv1.2"},
    ],
)
aws.rds.Instance(
    "default",
    allocated_storage=10,
    db_name="mydb",
    engine="postgres",
    engine_version="16.4",
    instance_class=aws.rds.InstanceType.T4_G_MICRO,
    username="foo",
    manage_master_user_password=True,
    master_user_secret_kms_key_id=storage.key_id,
    db_subnet_group_name=group.name,
    parameter_group_name=parameters.name,
    vpc_security_group_ids=[db_sg.id],
    publicly_accessible=False,
    storage_encrypted=True,
    kms_key_id=storage.arn,
    deletion_protection=True,
    final_snapshot_identifier="mydb-last",
    backup_retention_period=14,
    tags=tags,
)
# CloudFront's standard logging, version 2: CloudWatch delivers it into the bucket of logs.
source = aws.cloudwatch.LogDeliverySource(
    "s3_distribution", name="website", log_type="ACCESS_LOGS", resource_arn=s3_distribution.arn
)
destination = aws.cloudwatch.LogDeliveryDestination(
    "s3_distribution",
    name="website",
    delivery_destination_configuration={"destination_resource_arn": access.arn},
)
aws.cloudwatch.LogDelivery(
    "s3_distribution",
    delivery_source_name=source.name,
    delivery_destination_arn=destination.arn,
)

pulumi.export("url", s3_distribution.domain_name)
