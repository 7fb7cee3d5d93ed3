"""The life of DKIM keys (R21): which change of stages is safe now, and which is due next. Pure data in and out.

A generation is made (`generated`), shown to the world (`published`), used (`signing`), shown a while longer so that
mail under way can be verified (`published` again) and given up (`retired`). Each step is a change of
`fleet.dkim.keys`; what the steps wait for is in a `Life`. Names, values and records are `mailinfra.names`' and
`mailinfra.records`' affair.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from mailinfra.errors import Problem
from mailinfra.fleet import Dkim, DkimKey, KeyStage

STEPS = {
    KeyStage.GENERATED: (KeyStage.PUBLISHED,),
    KeyStage.PUBLISHED: (KeyStage.SIGNING, KeyStage.RETIRED),
    KeyStage.SIGNING: (KeyStage.PUBLISHED,),
    KeyStage.RETIRED: (),
}
"""The stages that may follow a stage."""


@dataclass(frozen=True)
class Life:
    """What has happened to a generation, in all regions; None is not yet. Times are aware of their zone."""

    seen: datetime | None = None
    """Since when every authoritative server of every domain has answered with its records."""
    began: datetime | None = None
    """When it began to sign."""
    ended: datetime | None = None
    """When its last signature was made."""


def check_change(
    old: Dkim, new: Dkim, lives: Mapping[str, Life], now: datetime, ttl: timedelta
) -> Iterator[Problem]:
    """Yield what forbids the change from `old` to `new` at this moment.

    `lives` is by serial, `ttl` the longest that a resolver may remember a record, or that there is none
    (RFC 2308 5). No problem: mail signed before, during and after the change can be verified.
    """
    before = {key.serial: key.stage for key in old.keys}
    after = {key.serial: key.stage for key in new.keys}
    for serial, stage in before.items():
        if serial not in after and stage not in (KeyStage.GENERATED, KeyStage.RETIRED):
            yield Problem("dkim.keys", f"serial {serial} gone while {stage}", "retired first, then gone")
    for index, key in enumerate(new.keys):
        path, life = f"dkim.keys[{index}].stage", lives.get(key.serial, Life())
        was = before.get(key.serial)
        if was is key.stage:
            continue
        if was is None:
            if key.stage is not KeyStage.GENERATED:
                yield Problem(path, f"{key.stage} for a new serial", str(KeyStage.GENERATED))
        elif key.stage not in STEPS[was]:
            allowed = " or ".join((was, *STEPS[was]))
            yield Problem(path, f"{key.stage} after {was}", allowed)
        elif key.stage is KeyStage.SIGNING and not known_everywhere(life, now, ttl):
            found = f"signing, but its record is seen everywhere since {life.seen or 'never'}"
            yield Problem(path, found, f"signing once it is seen for {ttl}")
        elif key.stage is KeyStage.RETIRED and not drained(life, now, new.drain_days):
            found = f"retired, but its last signature is of {life.ended or 'an unknown time'}"
            yield Problem(path, found, f"retired {new.drain_days} days after the last signature")


def known_everywhere(life: Life, now: datetime, ttl: timedelta) -> bool:
    """Whether no resolver can still believe that the key's record does not exist."""
    return life.seen is not None and now - life.seen >= ttl


def drained(life: Life, now: datetime, days: int) -> bool:
    """Whether no mail that the key signed should still be under way."""
    return life.began is None or (life.ended is not None and now - life.ended >= timedelta(days=days))


def next_keys(dkim: Dkim, lives: Mapping[str, Life], now: datetime, ttl: timedelta) -> tuple[DkimKey, ...]:
    """Return the keys after the one step that is due now; unchanged when none is.

    Applied again and again this is the rotation: a successor is made when the signing key has signed for
    `rotation_days`, and takes over when the DNS shows it; the old one goes when its mail has drained.
    Serials are numbers for this: ValueError if the successor's cannot be told.
    """
    stages = {key.serial: key.stage for key in dkim.keys}
    signing = next(key.serial for key in dkim.keys if key.stage is KeyStage.SIGNING)
    life = lives.get(signing, Life())
    for serial, stage in stages.items():
        other = lives.get(serial, Life())
        if stage is KeyStage.GENERATED:
            return changed(dkim, {serial: KeyStage.PUBLISHED})
        if stage is KeyStage.PUBLISHED and not other.began and known_everywhere(other, now, ttl):
            return changed(dkim, {signing: KeyStage.PUBLISHED, serial: KeyStage.SIGNING})
        if stage is KeyStage.PUBLISHED and other.began and drained(other, now, dkim.drain_days):
            return changed(dkim, {serial: KeyStage.RETIRED})
    successor = any(
        stage is KeyStage.PUBLISHED and not lives.get(serial, Life()).began
        for serial, stage in stages.items()
    )
    if not successor and life.began and now - life.began >= timedelta(days=dkim.rotation_days):
        if not all(serial.isdecimal() for serial in stages):
            raise ValueError(f"dkim.keys: found serials {', '.join(stages)}; allowed for a schedule: numbers")
        serial = str(1 + max(int(serial) for serial in stages))
        return (*dkim.keys, DkimKey(serial=serial, stage=KeyStage.GENERATED))
    return dkim.keys


def changed(dkim: Dkim, stages: Mapping[str, KeyStage]) -> tuple[DkimKey, ...]:
    """Return the keys with the stages of some serials changed."""
    return tuple(DkimKey(serial=key.serial, stage=stages.get(key.serial, key.stage)) for key in dkim.keys)
