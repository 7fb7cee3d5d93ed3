"""A web application: a bucket behind a CDN, a load balancer, a database, each with something forgotten."""

import pulumi
import pulumi_aws as aws

tags = {"residency-zone": "eu", "managed-by": "web-team", "data-class": "web"}

main = aws.ec2.Vpc("main", cidr_block="10.0.0.0/16", tags=tags)
subnets = [
    aws.ec2.Subnet(
        f"app-{zone}",
        vpc_id=main.id,
        cidr_block=f"10.0.{index}.0/24",
        availability_zone=f"eu-central-1{zone}",
    )
    for index, zone in enumerate("ab")
]

example = aws.s3.Bucket("example", bucket="my-tf-test-bucket", tags=tags)
aws.s3.BucketAcl("example", bucket=example.id, acl="public-read")

oac = aws.cloudfront.OriginAccessControl(
    "example",
    origin_access_control_origin_type="s3",
    signing_behavior="always",
    signing_protocol="sigv4",
)
s3_distribution = aws.cloudfront.Distribution(
    "s3_distribution",
    origins=[
        {
            "domain_name": example.bucket_regional_domain_name,
            "origin_access_control_id": oac.id,
            "origin_id": "myS3Origin",
        }
    ],
    enabled=True,
    default_root_object="index.html",
    default_cache_behavior={
        "allowed_methods": ["GET", "HEAD"],
        "cached_methods": ["GET", "HEAD"],
        "target_origin_id": "myS3Origin",
        "forwarded_values": {"query_string": False, "cookies": {"forward": "none"}},
        "viewer_protocol_policy": "allow-all",
    },
    restrictions={"geo_restriction": {"restriction_type": "none"}},
    viewer_certificate={"cloudfront_default_certificate": True},
)

lb_sg = aws.ec2.SecurityGroup(
    "lb_sg",
    vpc_id=main.id,
    ingress=[
        {"protocol": "tcp", "from_port": 443, "to_port": 443, "cidr_blocks": ["0.0.0.0/0"]},
        {"protocol": "tcp", "from_port": 22, "to_port": 22, "cidr_blocks": ["0.0.0.0/0"]},
    ],
    tags={**tags, "roles": "web"},
)
front_end = aws.lb.LoadBalancer(
    "front_end",
    load_balancer_type="application",
    security_groups=[lb_sg.id],
    subnets=[subnet.id for subnet in subnets],
)
target = aws.lb.TargetGroup("front_end", port=80, protocol="HTTP", vpc_id=main.id)
certificate = aws.acm.Certificate("front_end", domain_name="www.example.com", validation_method="DNS")
aws.lb.Listener(
    "front_end",
    load_balancer_arn=front_end.arn,
    port=443,
    protocol="HTTPS",
    ssl_policy="ELBSecurityPolicy-2016-08",
    certificate_arn=certificate.arn,
    default_actions=[{"type": "forward", "target_group_arn": target.arn}],
)

group = aws.rds.SubnetGroup("default", subnet_ids=[subnet.id for subnet in subnets])
default = aws.rds.Instance(
    "default",
    allocated_storage=10,
    db_name="mydb",
    engine="mysql",
    engine_version="8.0",
    instance_class=aws.rds.InstanceType.T3_MICRO,
    username="foo",
    manage_master_user_password=True,
    db_subnet_group_name=group.name,
    publicly_accessible=True,
    skip_final_snapshot=True,
    tags=tags,
)

pulumi.export("url", s3_distribution.domain_name)
