"""How long backups are kept: the law's ten years or an agency's longer time, and holds.

Counted as 会计档案 are: from the first day after the calendar year in which the backup was made. A
company under a hold (冻结) loses nothing, whatever its age. Deleting is two steps, so that a crash
between them loses nothing that should stay: the row is closed with its entry in the trail, then the
file goes (:func:`clearing.services.backups.remove_file`).
Lock order: company → disk → run → batch → head.
"""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils.translation import gettext as _

from agency import audit
from agency.choices import Action
from agency.clock import BEIJING
from agency.errors import ServiceError
from agency.models import BACKUP_YEARS_BY_LAW, Agency, Company
from clearing.models import Backup, BackupHold
from clearing.services.backups import remove_file

MOST_YEARS = 100


def kept_through(made_at: dt.datetime, years: int) -> dt.date:
    """The last day on which a backup must be there."""
    return dt.date(made_at.astimezone(BEIJING).year + years, 12, 31)


def _made_before(now: dt.datetime, years: int) -> dt.datetime:
    """Backups made before this moment are past their time."""
    return dt.datetime(now.astimezone(BEIJING).year - years, 1, 1, tzinfo=BEIJING)


def holds() -> QuerySet[BackupHold]:
    """The holds in force."""
    return BackupHold.objects.filter(lifted_at__isnull=True)


@transaction.atomic
def backups_hold(*, company: Company, reason: str, by: str, now: dt.datetime) -> BackupHold:
    """From now on nothing of this company's backups is deleted. Raises ServiceError."""
    reason = _reason(reason)
    Company.objects.select_for_update(of=("self",)).get(pk=company.pk)
    if holds().filter(company=company).exists():
        raise ServiceError(_("该客户的备份已经冻结。"))
    hold = BackupHold.objects.create(
        agency_id=company.agency_id, company=company, reason=reason, set_by=by, set_at=now
    )
    audit.record(Action.BACKUPS_HELD, company, company_id=company.pk, data={"reason": reason})
    return hold


@transaction.atomic
def backups_release(*, company: Company, reason: str, by: str, now: dt.datetime) -> None:
    """Lift the hold; what is past its time is deleted from the next round on. ServiceError."""
    reason = _reason(reason)
    lifted = holds().filter(company=company).update(lifted_at=now, lifted_by=by, lift_reason=reason)
    if not lifted:
        raise ServiceError(_("该客户的备份没有冻结。"))
    audit.record(
        Action.BACKUPS_HOLD_LIFTED, company, company_id=company.pk, data={"reason": reason}
    )


@transaction.atomic
def backup_years_set(*, agency: Agency, years: int) -> None:
    """Keep backups for so many years. Raises ServiceError below what the law demands."""
    if not BACKUP_YEARS_BY_LAW <= years <= MOST_YEARS:
        raise ServiceError(
            _("保存年限至少 %(least)s 年 (会计档案的法定期限)，至多 %(most)s 年。")
            % {"least": BACKUP_YEARS_BY_LAW, "most": MOST_YEARS}
        )
    before = agency.backup_years
    Agency.objects.filter(pk=agency.pk).update(backup_years=years)
    agency.backup_years = years
    audit.record(Action.BACKUP_YEARS_CHANGED, agency, data={"from": before, "to": years})


def _reason(text: str) -> str:
    text = text.strip()
    if not text:
        raise ServiceError(_("请写明原因。"))
    return text[:200]


def expired(agency: Agency, now: dt.datetime) -> QuerySet[Backup]:
    """What is past its time and not held."""
    held = holds().filter(company=OuterRef("disk_period__disk__company"))
    return Backup.objects.filter(
        ~Exists(held),
        deleted_at__isnull=True,
        created_at__lt=_made_before(now, agency.backup_years),
    )


@transaction.atomic
def close_expired(*, agency: Agency, now: dt.datetime) -> int:
    """Close the rows that are past their time; how many. A company whose hold is being set at this
    moment is left for the next round."""
    companies = Company.objects.filter(
        pk__in=expired(agency, now).values("disk_period__disk__company")
    )
    locked = list(companies.select_for_update(skip_locked=True, of=("self",)).order_by("pk"))
    due = expired(agency, now).filter(disk_period__disk__company__in=locked)
    rows = list(due.select_related("disk_period__disk"))
    for backup in rows:
        disk = backup.disk_period.disk
        audit.record(
            Action.BACKUP_DELETED,
            disk,
            company_id=disk.company_id,
            data={
                "backup": backup.pk,
                "sha256": backup.sha256,
                "made": backup.created_at.astimezone(BEIJING).date().isoformat(),
                "years": agency.backup_years,
            },
        )
    return Backup.objects.filter(pk__in=[row.pk for row in rows]).update(deleted_at=now)


def remove_closed() -> int:
    """Delete the files of closed rows; how many rows have none any more. Safe to repeat."""
    closed = Backup.objects.filter(deleted_at__isnull=False).exclude(storage_name="")
    done = 0
    for backup in closed.select_related("disk_period"):
        remove_file(backup.disk_period.disk_id, backup.storage_name)
        done += Backup.objects.filter(pk=backup.pk).update(storage_name="")
    return done
