"""读盘机: which machines there are and what they see; enrol, roll, revoke, declare lost.

No page shows a token or a broker password: a machine gets both as the answer to its code, and the
code is shown once, on the page that answers the button.
"""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from agency import clock
from agency.access import Viewer, companies_of, require
from agency.choices import Act
from agency.errors import ServiceError
from agency.middleware import viewer_of
from agency.models import Agency
from agency.pages.proof import recently_proven
from devices import services
from devices.alarms import alarms
from devices.models import Machine, Slot, TaxDisk
from devices.selectors import machine_views, unknown_disks
from devices.services.machines import CODE_LIFE


class CodeForm(forms.Form):
    """A new machine. ``simulated`` is asked in a practice agency only."""

    name = forms.CharField(label=gettext_lazy("名称 (如 前台、机房一)"), max_length=60)
    parallel = forms.IntegerField(
        label=gettext_lazy("同时办理数"), min_value=1, max_value=64, initial=8
    )
    https_only = forms.BooleanField(
        label=gettext_lazy("仅走 HTTPS (不在服务器的网络里，或 Windows)"), required=False
    )
    simulated = forms.BooleanField(
        label=gettext_lazy("模拟盘 (练习机构)"), required=False, initial=True
    )

    def __init__(self, *args: object, practice: bool, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        if not practice:
            del self.fields["simulated"]


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    viewer = viewer_of(request)
    require(viewer, Act.MACHINES)
    now = clock.real_now()
    return render(
        request,
        "devices/machines.html",
        {
            "views": machine_views(now),
            "unknown": unknown_disks(now, companies_of(viewer)),
            "alarms": alarms(now),
            "may_way_out": viewer.may(Act.PIN_WAY_OUT),
        },
    )


@never_cache
@recently_proven()
@require_http_methods(["GET", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """Make a code for a new machine; the answer to the button shows it, and nothing else does."""
    viewer = viewer_of(request)
    require(viewer, Act.MACHINES)
    agency = Agency.objects.get(pk=viewer.agency_id)
    form = CodeForm(request.POST or None, practice=agency.practice)
    if request.method == "POST" and form.is_valid():
        said = form.cleaned_data
        try:
            with transaction.atomic():
                made = services.enrolment_code_create(
                    agency=agency,
                    name=said["name"],
                    parallel=said["parallel"],
                    https_only=said["https_only"],
                    simulated=said.get("simulated", False),
                    by=viewer.name,
                    now=clock.real_now(),
                )
        except ServiceError as refusal:
            form.add_error(None, str(refusal))
        else:
            return _show_code(request, made, again=False)
    return render(request, "devices/machine_add.html", {"form": form})


@never_cache
@recently_proven()
@require_http_methods(["GET", "POST"])
def roll(request: HttpRequest, machine_id: int) -> HttpResponse:
    """更换密钥: the old credentials end with the button, the code brings the new ones."""
    viewer = viewer_of(request)
    machine = access_machine(viewer, machine_id, Act.MACHINES)
    if request.method == "POST":
        try:
            with transaction.atomic():
                made = services.machine_roll(machine=machine, by=viewer.name, now=clock.real_now())
        except ServiceError as refusal:
            messages.error(request, str(refusal))
            return redirect("machines")
        return _show_code(request, made, again=True)
    return render(request, "devices/machine_roll.html", {"machine": machine})


@recently_proven()
@require_http_methods(["GET", "POST"])
def revoke(request: HttpRequest, machine_id: int) -> HttpResponse:
    """停用: for good; what it still owes is taken for 30 days."""
    viewer = viewer_of(request)
    machine = access_machine(viewer, machine_id, Act.MACHINES)
    if request.method == "POST":
        services.machine_revoke(machine=machine, now=clock.real_now())
        messages.success(request, _("已停用读盘机“%(name)s”。") % {"name": machine.name})
        return redirect("machines")
    held = TaxDisk.objects.filter(pin_intent_machine=machine).count()
    return render(request, "devices/machine_revoke.html", {"machine": machine, "held": held})


@recently_proven()
@require_http_methods(["GET", "POST"])
def lost(request: HttpRequest, machine_id: int) -> HttpResponse:
    """申明丢失: stop waiting for the PINs that only this machine may have."""
    viewer = viewer_of(request)
    machine = access_machine(viewer, machine_id, Act.PIN_WAY_OUT)
    refused = ""
    if request.method == "POST":
        try:
            with transaction.atomic():
                disks = services.machine_declare_lost(machine=machine, now=clock.real_now())
        except ServiceError as refusal:
            refused = str(refusal)
        else:
            messages.success(
                request,
                _("已申明。%(n)s 只税盘改为“PIN 待确认”，请逐只处理。") % {"n": len(disks)},
            )
            return redirect("machines")
    held = list(
        TaxDisk.objects.select_related("company").filter(pin_intent_machine=machine).order_by("pk")
    )
    return render(
        request,
        "devices/machine_lost.html",
        {"refused": refused, "machine": machine, "held": held},
    )


@require_GET
def labels(request: HttpRequest, machine_id: int) -> HttpResponse:
    """盘位标签, to print and stick on."""
    viewer = viewer_of(request)
    machine = access_machine(viewer, machine_id, Act.MACHINES)
    slots = Slot.objects.filter(machine=machine).order_by("name")
    return render(request, "devices/machine_labels.html", {"machine": machine, "slots": slots})


def access_machine(viewer: Viewer, machine_id: int, act: Act) -> Machine:
    """The machine, for an act; a foreign one is a 404 like one that is not there."""
    machine = Machine.objects.filter(pk=machine_id).first()
    if machine is None:
        raise Http404
    require(viewer, act)
    return machine


def _show_code(request: HttpRequest, made: services.CodeCreated, *, again: bool) -> HttpResponse:
    return render(
        request,
        "devices/machine_code.html",
        {
            "code": made.code,
            "row": made.row,
            "server": request.build_absolute_uri("/").rstrip("/"),
            "minutes": int(CODE_LIFE.total_seconds()) // 60,
            "again": again,
        },
    )
