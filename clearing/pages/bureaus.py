"""税局: which bureau addresses are paused, why and since when; pause and resume by hand."""

from __future__ import annotations

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from agency import clock
from agency.access import require
from agency.choices import Act
from agency.errors import ServiceError
from agency.middleware import viewer_of
from clearing.selectors.stops import addresses
from clearing.services import bureau_pause, bureau_resume


@require_http_methods(["GET", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    viewer = viewer_of(request)
    require(viewer, Act.PAUSE)
    if request.method == "POST":
        address, note = request.POST.get("address", ""), request.POST.get("note", "")
        try:
            with transaction.atomic():
                if request.POST.get("action") == "resume":
                    on = bureau_resume(
                        address=address, note=note, by=viewer.name, now=clock.real_now()
                    )
                    text = _("已恢复，等待的办理自动接着办。")
                    messages.success(
                        request,
                        text if on else _("多家机构都连不上，先放行一户试探；通了即全部恢复。"),
                    )
                else:
                    bureau_pause(address=address, note=note, by=viewer.name, now=clock.real_now())
                    messages.success(request, _("已暂停。正在写盘的会办完这一步，其余等待。"))
        except ServiceError as refusal:
            messages.error(request, str(refusal))
        return redirect("bureaus")
    return render(request, "clearing/bureaus.html", {"addresses": addresses()})
