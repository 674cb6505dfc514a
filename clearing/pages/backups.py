"""备份: what a backup holds, its download, holds per company, and how all of them stand.

Every opening stands in the trail, and so does one that failed.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agency import clock
from agency.access import Viewer, access_company, require
from agency.choices import Act, Action
from agency.errors import ServiceError
from agency.middleware import viewer_of
from agency.models import BACKUP_YEARS_BY_LAW, Agency
from clearing.choices import BackupProblem
from clearing.models import Backup
from clearing.selectors import backups as read
from clearing.services.backups import backup_open
from clearing.services.retention import (
    MOST_YEARS,
    backup_years_set,
    backups_hold,
    backups_release,
)
from devices.choices import DiskKind
from devices.drivers.backup_content import BackupContent, read_backup
from devices.protocol.failures import Failure


class YearsForm(forms.Form):
    years = forms.IntegerField(
        label=gettext_lazy("备份保存年限"), min_value=BACKUP_YEARS_BY_LAW, max_value=MOST_YEARS
    )


class ReasonForm(forms.Form):
    reason = forms.CharField(label=gettext_lazy("原因"), max_length=200)


@never_cache
@require_http_methods(["GET", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """How all backups stand; and for how long they are kept."""
    viewer = viewer_of(request)
    require(viewer, Act.KEEP_BACKUPS)
    agency = Agency.objects.get(pk=viewer.agency_id)
    form = YearsForm(request.POST or None, initial={"years": agency.backup_years})
    if request.method == "POST" and form.is_valid():
        backup_years_set(agency=agency, years=form.cleaned_data["years"])
        messages.success(request, _("备份保存年限已改为 %(n)s 年。") % {"n": agency.backup_years})
        return redirect("backups")
    return render(
        request,
        "clearing/backups.html",
        {
            "form": form,
            "standing": read.standing(),
            "troubled": read.troubled(),
            "held": read.companies_held(),
            "years": agency.backup_years,
        },
    )


@never_cache
@require_GET
def page(request: HttpRequest, backup_id: int) -> HttpResponse:
    """What was on the disk, told from the backup's own content."""
    viewer = viewer_of(request)
    backup = access_backup(viewer, backup_id)
    disk = backup.disk_period.disk
    context: dict[str, Any] = {"backup": backup, "disk": disk, "company": disk.company}
    if backup.deleted_at is None:
        looked = backup_open(
            backup=backup, disk=disk, action=Action.BACKUP_OPENED, now=clock.real_now()
        )
        content = _content(backup, looked.content) if looked.problem is None else None
        context |= {
            "problem": looked.problem,
            "content": content,
            "types": read.type_views(content) if content else [],
            "files": [read.FileView(file) for file in content.files] if content else [],
        }
    return render(
        request,
        "clearing/backup.html",
        {
            **context,
            "hold": read.hold_of(disk.company),
            "kept_through": read.keep_until(backup, Agency.objects.get(pk=viewer.agency_id)),
            "restorable": read.RESTORABLE[DiskKind(disk.kind)],
            "package_kept": read.package_kept(backup),
            "may_keep": viewer.may(Act.KEEP_BACKUPS),
        },
    )


def _content(backup: Backup, content: bytes) -> BackupContent | None:
    """None where no driver of ours explains the content; it can be downloaded all the same."""
    try:
        return read_backup(content, made_at=backup.created_at.astimezone(clock.BEIJING))
    except Failure:
        return None


@never_cache
@require_POST
def download(request: HttpRequest, backup_id: int) -> HttpResponse:
    """The content as the driver exported it. POST: no link leads here from elsewhere."""
    viewer = viewer_of(request)
    backup = access_backup(viewer, backup_id)
    require(viewer, Act.KEEP_BACKUPS)
    if backup.deleted_at is not None:
        raise Http404
    disk = backup.disk_period.disk
    looked = backup_open(
        backup=backup, disk=disk, action=Action.BACKUP_DOWNLOADED, now=clock.real_now()
    )
    if looked.problem is not None:
        problem = BackupProblem(looked.problem).label
        messages.error(request, _("没有下载：此备份%(problem)s。") % {"problem": problem})
        return redirect("backup", backup.pk)
    answer = HttpResponse(looked.content, content_type="application/json")
    name = f"{disk}-{backup.disk_period.period}-{backup.sha256[:12]}.json"
    header = content_disposition_header(as_attachment=True, filename=name)
    if header:
        answer["Content-Disposition"] = header
    return answer


@require_http_methods(["GET", "POST"])
def hold(request: HttpRequest, company_id: int) -> HttpResponse:
    """冻结, or lift it again; with a reason."""
    viewer = viewer_of(request)
    company = access_company(viewer, company_id, Act.KEEP_BACKUPS)
    held = read.hold_of(company)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        lifting = "lift" in request.POST
        write = backups_release if lifting else backups_hold
        try:
            with transaction.atomic():
                write(
                    company=company,
                    reason=form.cleaned_data["reason"],
                    by=viewer.name,
                    now=clock.real_now(),
                )
        except ServiceError as refusal:
            form.add_error(None, str(refusal))
        else:
            said = _("已解除冻结。") if lifting else _("已冻结：该客户的备份一个也不会删除。")
            messages.success(request, said)
            return redirect(reverse("company", args=[company.pk]))
    return render(
        request, "clearing/backup_hold.html", {"form": form, "company": company, "held": held}
    )


def access_backup(viewer: Viewer, backup_id: int) -> Backup:
    """The backup, for a look at it; the same 404 and 403 as for its company."""
    backup = (
        Backup.objects.select_related("disk_period__disk__company").filter(pk=backup_id).first()
    )
    if backup is None:
        raise Http404
    access_company(viewer, backup.disk_period.disk.company_id, Act.OPEN_BACKUP)
    return backup
