"""Who reached for the data, and over which lines, is recorded."""

from collections.abc import Iterator

from mailinfra_policy.copies import S3_BUCKETS
from mailinfra_policy.expect import is_true, one_of, present
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.rules.traces_audit_log import AUDIT_CONFIGS, TRAIL
from mailinfra_policy.values import UNKNOWN, Value, get

_LOGGING = ("aws:s3/bucketLogging:BucketLogging", "aws:s3/bucketLoggingV2:BucketLoggingV2")
_GCS = "gcp:storage/bucket:Bucket"
_VPC = "aws:ec2/vpc:Vpc"
_FLOW = "aws:ec2/flowLog:FlowLog"
_SUBNET = "gcp:compute/subnetwork:Subnetwork"
_BALANCERS = (
    "aws:lb/loadBalancer:LoadBalancer",
    "aws:alb/loadBalancer:LoadBalancer",
    "aws:elb/loadBalancer:LoadBalancer",
)
_BACKENDS = (
    "gcp:compute/backendService:BackendService",
    "gcp:compute/regionBackendService:RegionBackendService",
)
_STAGES = ("aws:apigateway/stage:Stage", "aws:apigatewayv2/stage:Stage")
_CDN = "aws:cloudfront/distribution:Distribution"
_SOURCE = "aws:cloudwatch/logDeliverySource:LogDeliverySource"
_DELIVERY = "aws:cloudwatch/logDelivery:LogDelivery"
# Subnets of Google's own proxies carry no flow logs.
_PROXIES = frozenset(
    {"REGIONAL_MANAGED_PROXY", "GLOBAL_MANAGED_PROXY", "INTERNAL_HTTPS_LOAD_BALANCER", "PRIVATE_NAT"}
)


def judge_stack(context: Context) -> Iterator[Finding]:
    """Buckets, networks, load balancers, APIs and content delivery."""
    stack = context.stack
    logs = _log_buckets(context)
    for bucket in stack.of(*S3_BUCKETS):
        if bucket.urn not in logs and not _s3_logged(bucket, stack):
            yield Finding(
                bucket, "", "no access log", "a BucketLogging, or a trail with data events of AWS::S3::Object"
            )
    for bucket in stack.of(_GCS):
        if bucket.urn not in logs and not bucket.get("logging.logBucket") and not _audited(stack):
            yield Finding(
                bucket, "logging.logBucket", "nothing", "a log bucket, or an IAMAuditConfig of data access"
            )
    for network in stack.of(_VPC):
        if not stack.referring(network, "vpcId", _FLOW):
            yield Finding(network, "", "no FlowLog", "a FlowLog of the VPC")
    for flow in stack.of(_FLOW):
        yield from one_of(flow, "trafficType", ("ALL",), default="ALL" if _transit(flow) else None)
    for subnet in stack.of(_SUBNET):
        if subnet.get("purpose") not in _PROXIES:
            yield from present(subnet, "logConfig", "a logConfig (flow logs)")
    for balancer in stack.of(*_BALANCERS):
        yield from present(balancer, "accessLogs.bucket", "a bucket for access logs")
        default = True if balancer.type.startswith("aws:elb/") else None
        yield from is_true(balancer, "accessLogs.enabled", default=default)
    for backend in stack.of(*_BACKENDS):
        yield from is_true(backend, "logConfig.enable")
    for stage in stack.of(*_STAGES):
        yield from present(stage, "accessLogSettings.destinationArn", "a log group or stream for access logs")
    for distribution in stack.of(_CDN):
        if not distribution.get("loggingConfig.bucket") and not _delivered(distribution, stack):
            yield Finding(
                distribution,
                "loggingConfig.bucket",
                "nothing",
                "a bucket for access logs, or a LogDelivery of its ACCESS_LOGS",
            )


def _delivered(distribution: Resource, stack: Stack) -> bool:
    """Whether CloudWatch delivers a distribution's access logs (CloudFront's standard logging, version 2)."""
    return any(
        source.get("logType") == "ACCESS_LOGS" and stack.referring(source, "deliverySourceName", _DELIVERY)
        for source in stack.referring(distribution, "resourceArn", _SOURCE)
    )


def _logs_itself(distribution: Resource, stack: Stack) -> bool:
    return not _delivered(distribution, stack)


def _transit(flow: Resource) -> bool:
    return flow.get("transitGatewayId") is not None or flow.get("transitGatewayAttachmentId") is not None


def _log_buckets(context: Context) -> set[str]:
    """Buckets that hold logs themselves: logging them would log the logging."""
    stack = context.stack
    found = {
        bucket.urn
        for bucket in stack.of(*S3_BUCKETS, _GCS)
        if (data := bucket.tag(context.config.tags.data)) is not UNKNOWN
        and data in context.config.traces.log_classes
    }
    for token, path in ((TRAIL, "s3BucketName"), *((token, "targetBucket") for token in _LOGGING)):
        for item in stack.of(token):
            found |= {bucket.urn for bucket in stack.referred(item, path, *S3_BUCKETS)}
    return found


def _s3_logged(bucket: Resource, stack: Stack) -> bool:
    if any(
        other.get("targetBucket") is not None for other in stack.referring(bucket, "bucket", *_LOGGING)
    ) or bucket.get("logging.targetBucket"):
        return True
    arn = f"arn:aws:s3:::{bucket.get('bucket')}/"
    return any(_records(trail, arn, stack) for trail in stack.of(TRAIL))


def _records(trail: Resource, arn: str, stack: Stack) -> bool:
    """Whether a trail records the data events of a bucket."""
    for path, selector in trail.each("eventSelectors[*]"):
        if selector is UNKNOWN or get(selector, "readWriteType") not in (None, "All"):
            continue
        for at, data in trail.each(f"{path}.dataResources[*]"):
            values = trail.get(f"{at}.values")
            all_of_it = ("arn:aws:s3", "arn:aws:s3:::", arn)
            if (
                get(data, "type") == "AWS::S3::Object"
                and isinstance(values, list)
                and {*all_of_it} & {*values}
            ):
                return True
    for _, selector in trail.each("advancedEventSelectors[*]"):
        fields = get(selector, "fieldSelectors")
        fields = fields if isinstance(fields, list) else []
        wanted = {"eventCategory": ["Data"], "resources.type": ["AWS::S3::Object"]}
        said = {get(field, "field"): get(field, "equals") for field in fields if field is not UNKNOWN}
        if said == wanted:
            return True
    return False


def _audited(stack: Stack) -> bool:
    """Whether an audit config records reads and writes of Cloud Storage."""
    for config in stack.of(*AUDIT_CONFIGS):
        kinds = {value for _, value in config.each("auditLogConfigs[*].logType") if value is not UNKNOWN}
        if config.get("service") in ("allServices", "storage.googleapis.com") and kinds >= {
            "DATA_READ",
            "DATA_WRITE",
        }:
            return True
    return False


def _alone(resource: Resource, stack: Stack) -> bool:
    """Whether nothing else of the stack records what happens in buckets."""
    return not stack.of(TRAIL) and not _audited(stack)


def _plain(subnet: Resource, _value: Value) -> bool:
    return subnet.get("purpose") not in _PROXIES


def _of_vpc(flow: Resource, stack: Stack) -> bool:
    return bool(stack.referred(flow, "vpcId", _VPC))


RULE = Rule(
    id="traces-access-log",
    title="Access to stores and networks is logged",
    severity=Severity.MEDIUM,
    why="Whether somebody read mail, and from where, can be told only by logs that were on at the time.",
    mend="Turn on S3 access logs or a trail's data events, GCS data access logs, flow logs of VPCs and subnets, and "
    "the access logs of load balancers, API stages and CloudFront.",
    controls=(
        Control(Framework.GDPR, "Art. 33"),
        Control(Framework.SOC2, "CC7.2"),
        Control(Framework.ISO27001, "A.8.15"),
    ),
    covers={
        **dict.fromkeys(S3_BUCKETS, ()),
        **{token: (Guard("", where=_alone),) for token in _LOGGING},
        _GCS: (
            Guard(
                "logging.logBucket",
                wrong=("",),
                opaque=True,
                where=_alone,
                when=lambda bucket, value: bool(value) and bucket.tag("data-class") != "logs",
            ),
        ),
        _VPC: (),
        _FLOW: (Guard("", where=_of_vpc), Guard("trafficType", wrong=("REJECT", "all"), where=_of_vpc)),
        _SUBNET: (Guard("logConfig", opaque=True, when=_plain),),
        **{
            token: (
                Guard("accessLogs.enabled", wrong=(False,), needed=not token.startswith("aws:elb/")),
                Guard("accessLogs.bucket", wrong=("",), opaque=True),
            )
            for token in _BALANCERS
        },
        **{token: (Guard("logConfig.enable", wrong=(False,)),) for token in _BACKENDS},
        **{
            token: (Guard("accessLogSettings.destinationArn", wrong=("",), opaque=True),) for token in _STAGES
        },
        _CDN: (Guard("loggingConfig.bucket", wrong=("",), opaque=True, where=_logs_itself),),
        _SOURCE: (Guard("logType", wrong=("EVENT_LOGS",)),),
        _DELIVERY: (Guard(""),),
    },
    judge_stack=judge_stack,
)
