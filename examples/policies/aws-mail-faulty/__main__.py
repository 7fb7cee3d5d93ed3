"""A mail server as tutorials make it: one machine, one disk, and what protects neither."""

import pulumi_aws as aws

user_data = """#!/bin/bash
apt-get install -y postfix
postconf -e 'myhostname = mail.example.com'
postconf -e 'smtpd_tls_security_level = may'
postconf -e 'smtpd_tls_protocols = !SSLv2, !SSLv3'
systemctl restart postfix
"""

tags = {"residency-zone": "eu", "managed-by": "mail-team", "data-class": "mail"}

mail = aws.ec2.SecurityGroup("mail", description="Mail", tags={**tags, "roles": "mx"})
aws.vpc.SecurityGroupIngressRule(
    "smtp",
    security_group_id=mail.id,
    cidr_ipv4="0.0.0.0/0",
    from_port=25,
    ip_protocol="tcp",
    to_port=25,
)
aws.vpc.SecurityGroupIngressRule(
    "imap",
    security_group_id=mail.id,
    cidr_ipv4="0.0.0.0/0",
    from_port=143,
    ip_protocol="tcp",
    to_port=143,
)

debian = aws.ec2.get_ami_output(
    most_recent=True,
    owners=["136693071363"],
    filters=[{"name": "name", "values": ["debian-12-amd64-*"]}],
)
server = aws.ec2.Instance(
    "server",
    ami=debian.id,
    instance_type=aws.ec2.InstanceType.T3_MICRO,
    availability_zone="eu-central-1a",
    vpc_security_group_ids=[mail.id],
    user_data=user_data,
    tags={"Name": "mail"},
)
store = aws.ebs.Volume("store", availability_zone="eu-central-1a", size=40, tags=tags)
aws.ec2.VolumeAttachment("store", device_name="/dev/sdh", volume_id=store.id, instance_id=server.id)
address = aws.ec2.Eip("address", instance=server.id, domain="vpc")

primary = aws.route53.Zone("primary", name="example.com")
aws.route53.Record(
    "mail", zone_id=primary.zone_id, name="mail.example.com", type="A", ttl=300, records=[address.public_ip]
)
aws.route53.Record(
    "mx", zone_id=primary.zone_id, name="example.com", type="MX", ttl=300, records=["10 mail.example.com."]
)
aws.route53.Record(
    "spf",
    zone_id=primary.zone_id,
    name="example.com",
    type="TXT",
    ttl=300,
    records=["v=spf1 mx include:_spf.google.com +all"],
)
aws.route53.Record(
    "dmarc",
    zone_id=primary.zone_id,
    name="_dmarc.example.com",
    type="TXT",
    ttl=300,
    records=["v=DMARC1; p=none"],
)
