"""Rotation of keys: whatever an older key of the ring sealed is sealed anew with the first.

Runs beside the working site: small transactions, each row by one conditional update (what somebody
changed meanwhile is left alone and looked at again by the next run). Can be stopped and started at
any time. A file is written anew under another name, read back, and only then named by its rows.
Never prints or keeps plain text.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from allauth.mfa.models import Authenticator
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import models, transaction

from agency.accounts import PROOF_CONTEXT
from agency.durable import make_durable
from agency.scope import agency_scope
from agency.sealed import Place, places
from agency.sealing import SealError, key_of, newest_key, open_sealed, seal
from agency.selectors import every_agency
from agency.tenancy import TenantModel

_AT_ONCE = 200
Progress = Callable[[Place, int | None, int], None]
Moved = Callable[[models.Model, str], None]


def rooms() -> Iterator[tuple[Place, int | None]]:
    """Every place of every agency; None: a table that is no agency's."""
    agencies = every_agency()
    for place in places():
        if issubclass(place.model, TenantModel):
            yield from ((place, agency_id) for agency_id in agencies)
        else:
            yield place, None


def _scope(agency_id: int | None) -> AbstractContextManager[None]:
    return nullcontext() if agency_id is None else agency_scope(agency_id)


def keys_in_use() -> Counter[tuple[str, str]]:
    """How many values each key seals, by (place, key); an unreadable one counts under "?"."""
    found: Counter[tuple[str, str]] = Counter()
    for place, agency_id in rooms():
        with _scope(agency_id):
            for _pk, sealed in _values(place, 0, None):
                found[str(place), key_of(sealed) or "?"] += 1
    for _row, _name, sealed in _proofs():
        found["mfa.Authenticator.data", key_of(sealed) or "?"] += 1
    return found


def _proofs() -> Iterator[tuple[Authenticator, str, bytes]]:
    """The sealed secrets of second factors: allauth keeps them as base64 inside its own JSON."""
    for row in Authenticator.objects.order_by("pk"):
        for name, value in row.data.items():
            try:
                sealed = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
            except binascii.Error:
                continue
            if key_of(sealed) is not None:
                yield row, name, sealed


def _reseal_proofs() -> int:
    count = 0
    for row, name, sealed in list(_proofs()):
        if key_of(sealed) == newest_key():
            continue
        try:
            plain = open_sealed(sealed, context=PROOF_CONTEXT)
        except SealError as error:
            raise SealError(f"mfa.Authenticator {row.pk}: {error}") from None
        again = base64.b64encode(seal(plain, context=PROOF_CONTEXT)).decode()
        same = Authenticator.objects.filter(pk=row.pk, data=row.data)
        row.data = {**row.data, name: again}
        count += same.update(data=row.data)
    return count


def reseal(*, progress: Progress, moved: Moved) -> int:
    """Seal anew what is not sealed with the first key; how many values. ``moved(row, name)``: a
    row names another file now. Raises SealError, naming the place, for one that does not open."""
    total = 0
    for place, agency_id in rooms():
        count, after = 0, 0
        while True:
            with _scope(agency_id):
                batch = list(_values(place, after, _AT_ONCE))
            if not batch:
                break
            for pk, sealed in batch:
                if sealed and key_of(sealed) != newest_key():
                    with _scope(agency_id):
                        count += _one(place, pk, sealed, moved)
            after = batch[-1][0]
        if count:
            progress(place, agency_id, count)
        total += count
    return total + _reseal_proofs()


def _values(place: Place, after: int, most: int | None) -> Iterator[tuple[int, bytes]]:
    """(primary key, sealed bytes) of the rows that hold something, in order."""
    name = place.field.name
    rows = place.model._default_manager.filter(pk__gt=after).order_by("pk")
    empty = {f"{name}": ""} if place.in_file else {f"{name}__isnull": True}
    for pk, value in rows.exclude(**empty).values_list("pk", name)[:most]:
        yield pk, _file(value) if place.in_file else bytes(value)


def _file(name: str) -> bytes:
    try:
        with default_storage.open(name) as file:
            content: bytes = file.read()
    except OSError:
        return b""  # check_backups tells of it
    return content


@transaction.atomic
def _one(place: Place, pk: int, sealed: bytes, moved: Moved) -> int:
    row = place.model._default_manager.get(pk=pk)
    context = place.context(row)
    try:
        plain = open_sealed(sealed, context=context)
    except SealError as error:
        raise SealError(f"{place} {pk}: {error}") from None
    again = seal(plain, context=context)
    if place.in_file:
        return _new_file(place, row, again, moved)
    same = {"pk": pk, place.field.name: sealed}
    return place.model._default_manager.filter(**same).update(**{place.field.name: again})


def _new_file(place: Place, row: models.Model, sealed: bytes, moved: Moved) -> int:
    """Under a new name; the old file is the business of ``moved``, who knows its other rows."""
    name = place.field.name
    old = getattr(row, name)
    new = default_storage.save(old, ContentFile(sealed))
    if new == old or _file(new) != sealed:
        raise SealError(f"{place} {row.pk}: 写入的文件读不回来")
    make_durable(default_storage, new)  # before the old one goes
    done = place.model._default_manager.filter(pk=row.pk, **{name: old}).update(**{name: new})
    if done:
        moved(row, old)
    return done
