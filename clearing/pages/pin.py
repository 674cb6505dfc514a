"""PIN 待确认: a person's ways out, who has just shown who they are."""

from __future__ import annotations

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from agency.choices import Act
from agency.errors import ServiceError
from agency.middleware import viewer_of
from agency.pages.proof import recently_proven
from clearing.pages.password import access_disk
from devices.choices import PasswordState
from devices.services import pin_try_last
from devices.services.pins import TRIES_KEPT


@recently_proven()
@require_http_methods(["GET", "POST"])
def page(request: HttpRequest, disk_id: int) -> HttpResponse:
    """Try the last PIN once; the other ways are links: enter another, declare the machine lost."""
    viewer = viewer_of(request)
    disk = access_disk(viewer, disk_id, Act.PIN_WAY_OUT)
    refused = ""
    if request.method == "POST":
        try:
            with transaction.atomic():
                pin_try_last(disk=disk)
        except ServiceError as refusal:
            refused = str(refusal)
        else:
            messages.success(request, _("已准许试一次原 PIN：下一次办理会用它，且只用一次。"))
            return redirect("company", disk.company_id)
    enough = disk.tries_left is None or disk.tries_left > TRIES_KEPT
    return render(
        request,
        "clearing/pin.html",
        {
            "refused": refused,
            "disk": disk,
            "company": disk.company,
            "holder": disk.pin_intent_machine,
            "in_doubt": disk.password_state == PasswordState.PIN_UNKNOWN,
            "may_try": enough and disk.device_password is not None,
            "kept": TRIES_KEPT,
        },
    )
