"""人工登记: close a period that nothing can read, with a reason; never "cleared"."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from agency import clock
from agency.access import Viewer, access_company
from agency.choices import Act
from agency.errors import ServiceError
from agency.middleware import viewer_of
from clearing.models import DiskPeriod
from clearing.services import enter_by_hand


class ByHandForm(forms.Form):
    """The reason stands in the trail."""

    note = forms.CharField(
        label=gettext_lazy("依据 (写入操作留痕)"),
        max_length=200,
        widget=forms.Textarea({"rows": 3}),
    )
    sure = forms.BooleanField(label=gettext_lazy("我已在税盘或厂商软件上看到本属期办结"))


@require_http_methods(["GET", "POST"])
def page(request: HttpRequest, disk_period_id: int) -> HttpResponse:
    viewer = viewer_of(request)
    row = access_period(viewer, disk_period_id, Act.BY_HAND)
    form = ByHandForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                enter_by_hand(
                    disk_period_id=row.pk,
                    by=viewer.name,
                    note=form.cleaned_data["note"],
                    now=clock.now(),
                )
        except ServiceError as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(request, _("已人工登记。读盘一旦证明清卡，状态会自动改为已清卡。"))
            return redirect("company", row.disk.company_id)
    return render(
        request,
        "clearing/by_hand.html",
        {"form": form, "row": row, "disk": row.disk, "company": row.disk.company},
    )


def access_period(viewer: Viewer, disk_period_id: int, act: Act) -> DiskPeriod:
    """A disk's period, for an act on its company; the same 404 and 403 as for the company."""
    rows = DiskPeriod.objects.select_related("disk", "disk__company")
    row = rows.filter(pk=disk_period_id).first()
    if row is None:
        raise Http404
    access_company(viewer, row.disk.company_id, act)
    return row
