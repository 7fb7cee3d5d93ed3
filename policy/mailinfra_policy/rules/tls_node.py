"""The TLS floors of Postfix and Dovecot in what servers are told at boot."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mailinfra_policy import expect, mailconf
from mailinfra_policy.config import Tls
from mailinfra_policy.mailconf import Postfix, Service, reaches
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Finding, Guard, Rule, Severity
from mailinfra_policy.tls import MAIL
from mailinfra_policy.userdata import UndecodableError, UserData, read
from mailinfra_policy.values import UNKNOWN, show


@dataclass(frozen=True)
class Where:
    """A property that holds user-data; `encoded`: in base64; `elsewhere`: it names a place, so nothing is told."""

    path: str
    encoded: bool = False
    elsewhere: bool = False


_AWS = (Where("userData"), Where("userDataBase64", encoded=True))
_METADATA = (
    Where("metadata.startup-script"),
    Where("metadata.user-data"),
    Where("metadata.startup-script-url", elsewhere=True),
)
_GCP = (*_METADATA, Where("metadataStartupScript"))
_ITEM = "gcp:compute/projectMetadataItem:ProjectMetadataItem"
_ITEM_KEYS = ("startup-script", "user-data", "startup-script-url")

PLACES: Mapping[str, tuple[Where, ...]] = {
    "aws:ec2/instance:Instance": _AWS,
    "aws:ec2/spotInstanceRequest:SpotInstanceRequest": _AWS,
    "aws:ec2/launchConfiguration:LaunchConfiguration": _AWS,
    "aws:ec2/launchTemplate:LaunchTemplate": (Where("userData", encoded=True),),
    "aws:ec2/spotFleetRequest:SpotFleetRequest": (Where("launchSpecifications[*].userData"),),
    "aws:imagebuilder/imageRecipe:ImageRecipe": (Where("userDataBase64", encoded=True),),
    "aws:lightsail/instance:Instance": (Where("userData"),),
    "gcp:compute/instance:Instance": _GCP,
    "gcp:compute/instanceTemplate:InstanceTemplate": _GCP,
    "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate": _GCP,
    "gcp:compute/instanceFromTemplate:InstanceFromTemplate": _GCP,
    "gcp:compute/instanceFromMachineImage:InstanceFromMachineImage": _GCP,
    "gcp:compute/projectMetadata:ProjectMetadata": _METADATA,
    _ITEM: (Where("value"),),
}
_ALLOWED = "user-data that can be read"
_LOCAL = ("127.0.0.1", "[127.0.0.1]", "localhost", "[::1]", "::1")
_MANDATORY = frozenset({"encrypt", "dane-only", "fingerprint", "verify", "secure"})
_LEVELS = {
    "smtpd": frozenset({"may", "encrypt"}),
    "smtp": frozenset({"may", "dane"}) | _MANDATORY,
}
_ON_PORT = {
    "submission": "clients",
    "587": "clients",
    "submissions": "clients",
    "smtps": "clients",
    "465": "clients",
}


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """Each place's text is read, and what it says of Postfix and Dovecot keeps the floors."""
    if (
        resource.type == _ITEM
        and resource.get("key") is not UNKNOWN
        and resource.get("key") not in _ITEM_KEYS
    ):
        return
    for where in PLACES[resource.type]:
        for path, value in resource.each(where.path):
            if value is UNKNOWN:
                yield expect.unknown(resource, path, _ALLOWED)
            elif value not in (None, ""):
                yield from _read(resource, path, value, where, context.config.tls)


def _read(resource: Resource, path: str, value: object, where: Where, tls: Tls) -> Iterator[Finding]:
    if where.elsewhere or (resource.type == _ITEM and resource.get("key") == "startup-script-url"):
        yield Finding(resource, path, f"a script at {show(value)}", _ALLOWED)
        return
    try:
        data = read(str(value), encoded=where.encoded)
    except UndecodableError as error:
        yield Finding(resource, path, f"user-data that cannot be read: {error}", _ALLOWED)
        return
    if said := (*_postfix(data, tls), *_dovecot(data, tls)):
        found, allowed = ("; ".join(texts) for texts in zip(*said, strict=True))
        yield Finding(resource, path, found, allowed)


Said = tuple[str, str]
"""What was found and what is allowed."""


def _postfix(data: UserData, tls: Tls) -> Iterator[Said]:
    if not mailconf.uses(data, "postfix"):
        return
    conf = mailconf.postfix(data)
    if (conf.get("inet_interfaces") or "all").strip() not in {"loopback-only", "localhost", "127.0.0.1"}:
        yield from _side(conf, "smtpd", tls.internet, tls.clients)
        if conf.get("smtpd_tls_auth_only") == "no":
            yield "Postfix smtpd_tls_auth_only = no", "yes: no password in plain text"
    yield from _side(conf, "smtp", tls.internet, tls.internet)
    for service in conf.services:
        yield from _service(conf, service, tls)


def _side(conf: Postfix, side: str, plain: str, mandatory: str) -> Iterator[Said]:
    """What main.cf says of receiving (smtpd) or sending (smtp). Every value counts, not only the last."""
    level = f"{side}_tls_security_level"
    yield from _every(conf, level, " or ".join(sorted(_LEVELS[side])), lambda value: value in _LEVELS[side])
    if conf.get(level) not in _MANDATORY:
        yield from _floor(conf, f"{side}_tls_protocols", plain)
    yield from _floor(conf, f"{side}_tls_mandatory_protocols", mandatory)


def _floor(conf: Postfix, name: str, least: str) -> Iterator[Said]:
    yield from _every(conf, name, f">=TLSv{least} or higher", lambda value: reaches(value, least))


def _every(conf: Postfix, name: str, allowed: str, fits: Callable[[str], bool]) -> Iterator[Said]:
    given = [item for item in conf.settings if item.name == name]
    if not given:
        yield f"Postfix without {name}", f"{name} = {allowed}"
    for item in given:
        if not fits(conf.expand(item.value).strip()):
            yield f"Postfix {item.place}: {name} = {item.value}", allowed


def _service(conf: Postfix, service: Service, tls: Tls) -> Iterator[Said]:
    """What a service of master.cf says otherwise than main.cf."""
    place = f"Postfix master.cf {service.name}"
    if service.type == "inet":
        host, _, port = service.name.rpartition(":")
        least = getattr(tls, _ON_PORT.get(port, "internet" if port in {"smtp", "25"} else "fleet"))
        level = service.options.get("smtpd_tls_security_level")
        if host not in _LOCAL:
            if level is not None and level not in _LEVELS["smtpd"]:
                yield (
                    f"{place}: smtpd_tls_security_level={level}",
                    "may or encrypt on an address of the network",
                )
            wrapped = service.options.get("smtpd_tls_wrappermode") == "yes"
            main = conf.get("smtpd_tls_security_level")
            if port in _ON_PORT and not wrapped and (level or main) != "encrypt":
                yield f"{place}: smtpd_tls_security_level={level or main}", "encrypt"
            yield from _overrides(conf, service, "smtpd", least, tls.internet, place)
    elif service.command in {"smtp", "lmtp"}:
        level = service.options.get("smtp_tls_security_level")
        if level is not None and level not in _LEVELS["smtp"] and not _stays(conf, service.name):
            yield f"{place}: smtp_tls_security_level={level}", "TLS, unless it only goes to this very host"
        least = tls.fleet if level in {"encrypt", "fingerprint", "verify", "secure"} else tls.internet
        yield from _overrides(conf, service, "smtp", least, tls.internet, place)


def _overrides(
    conf: Postfix, service: Service, side: str, least: str, plain: str, place: str
) -> Iterator[Said]:
    for name, floor in ((f"{side}_tls_mandatory_protocols", least), (f"{side}_tls_protocols", plain)):
        value = service.options.get(name)
        if value is not None and not reaches(conf.expand(value), floor):
            yield f"{place}: {name}={value}", f">=TLSv{floor} or higher"


def _stays(conf: Postfix, transport: str) -> bool:
    """Whether a transport is named, and each time with a destination on this host."""
    texts = [item.value for item in conf.settings] + [
        value for service in conf.services for value in service.options.values()
    ]
    targets = [
        word.partition(":")[2]
        for text in texts
        for word in text.replace(",", " ").split()
        if word.startswith(f"{transport}:")
    ]
    return bool(targets) and all(target.rpartition(":")[0] in _LOCAL for target in targets)


def _dovecot(data: UserData, tls: Tls) -> Iterator[Said]:
    if not mailconf.uses(data, "dovecot"):
        return
    settings = mailconf.dovecot(data)
    if any(item.name == "protocols" and item.value in {"", "none"} for item in settings):
        return
    floors = [item for item in settings if item.name in {"ssl_min_protocol", "ssl_protocols"}]
    if not floors:
        yield "Dovecot without ssl_min_protocol", f"ssl_min_protocol = TLSv{tls.clients}"
    for item in floors:
        if not reaches(item.value, tls.clients):
            yield f"Dovecot {item.place}: {item.name} = {item.value}", f"TLSv{tls.clients} or higher"
    modes = [item for item in settings if item.name == "ssl" and "inet_listener" not in item.place]
    if not modes:
        yield "Dovecot without ssl", "ssl = required"
    for item in modes:
        if item.value != "required":
            yield f"Dovecot {item.place}: ssl = {item.value}", "required"
    for item in settings:
        if item.name == "disable_plaintext_auth" and item.value == "no":
            yield f"Dovecot {item.place}: disable_plaintext_auth = no", "yes: no password in plain text"


def _plain(value: object) -> str:
    return "#!/bin/bash\napt-get install -y postfix dovecot-imapd\n"


def _encoded(value: object) -> str:
    # Of `_plain`: a server with neither floor.
    return "IyEvYmluL2Jhc2gKYXB0LWdldCBpbnN0YWxsIC15IHBvc3RmaXggZG92ZWNvdC1pbWFwZAo="


def _guards(token: str) -> tuple[Guard, ...]:
    wrong = {True: (_encoded, "%%%", "H4sIAAAAAAAAA"), False: (_plain, "#include\nhttps://o.test/x\n")}
    return tuple(
        Guard(where.path, wrong=("gs://b/x",) if where.elsewhere else wrong[where.encoded], needed=False)
        for where in PLACES[token]
    )


RULE = Rule(
    id="tls-node",
    title="Postfix and Dovecot keep their TLS floors",
    severity=Severity.CRITICAL,
    why="Debian's Postfix and Dovecot let in TLS 1.0 and, unless told, hand mail and passwords over in plain text.",
    mend="Set security levels and protocols for smtpd and smtp (`smtpd_tls_protocols = >=TLSv1.2` …) and Dovecot's "
    "`ssl = required` and `ssl_min_protocol` in the user-data itself.",
    controls=MAIL,
    covers={token: _guards(token) for token in PLACES},
    judge=judge,
)
