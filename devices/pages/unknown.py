"""未登记税盘: disks that a machine sees and no record has, offered for adding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods

from agency import clock
from agency.access import access_company, companies_of, require
from agency.choices import Act
from agency.errors import ServiceError
from agency.middleware import viewer_of
from agency.models import Company
from agency.pages.proof import recently_proven
from devices.choices import ROLLING_KINDS, DiskKind
from devices.pages.passwords import DiskSecretsForm
from devices.selectors import UnknownDisk, unknown_disks
from devices.services import disk_create

if TYPE_CHECKING:
    _ModelChoiceField = forms.ModelChoiceField[Company]
else:
    _ModelChoiceField = forms.ModelChoiceField


class _CompanyField(_ModelChoiceField):
    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.short_name} · {obj.tax_id}"


class AddForm(DiskSecretsForm):
    """Whose disk it is, of which kind, and its passwords (which may also be entered later)."""

    company = _CompanyField(label=gettext_lazy("客户"), queryset=Company.objects.none())
    kind = forms.ChoiceField(label=gettext_lazy("设备类型"), choices=DiskKind.choices)
    terminal_no = forms.IntegerField(
        label=gettext_lazy("开票机号 (0 为主机)"), min_value=0, max_value=999, initial=0
    )
    # Which disk the person saw: another may have been plugged in meanwhile.
    device_no = forms.CharField(widget=forms.HiddenInput)
    field_order = ("company", "kind", "terminal_no", "device_password", "certificate_password")

    def __init__(
        self, *args: Any, found: UnknownDisk, companies: QuerySet[Company], **kwargs: Any
    ) -> None:
        slot = found.slot
        kwargs["initial"] = {
            "company": found.company,
            "kind": slot.kind,
            "terminal_no": slot.terminal_no or 0,
            "device_no": slot.device_no,
        }
        super().__init__(*args, **kwargs)
        self.slot = slot
        field = self.fields["company"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101
        field.queryset = companies.order_by("short_name", "pk")
        if slot.kind in DiskKind.values:  # the disk itself has said it
            kind = self.fields["kind"]
            assert isinstance(kind, forms.ChoiceField)  # noqa: S101
            kind.choices = [(slot.kind, DiskKind(slot.kind).label)]
        if slot.kind in ROLLING_KINDS:
            self.fields["device_password"].label = _("卡上现在的 PIN")
            del self.fields["certificate_password"]

    def clean_device_no(self) -> str:
        if self.cleaned_data["device_no"] != self.slot.device_no:
            raise ValidationError(_("盘位里的税盘已经换了，请重新核对。"))
        return self.slot.device_no

    def clean_company(self) -> Company:
        company: Company = self.cleaned_data["company"]
        if self.slot.tax_id and company.tax_id != self.slot.tax_id:
            raise ValidationError(
                _("盘上的税号是 %(tax_id)s，与所选客户不符。") % {"tax_id": self.slot.tax_id}
            )
        return company


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Everyone who may enter passwords sees them: nobody knows yet whose they are."""
    viewer = viewer_of(request)
    require(viewer, Act.ENTER_PASSWORD)
    found = unknown_disks(clock.real_now(), companies_of(viewer))
    return render(request, "devices/unknown.html", {"unknown": found})


@sensitive_post_parameters()
@never_cache
@recently_proven()
@require_http_methods(["GET", "POST"])
def add(request: HttpRequest, slot_id: int) -> HttpResponse:
    """Add the disk in a slot to one of the viewer's companies."""
    viewer = viewer_of(request)
    require(viewer, Act.ENTER_PASSWORD)
    companies = companies_of(viewer)
    found = _found(slot_id, companies)
    form = AddForm(request.POST or None, found=found, companies=companies)
    if request.method == "POST" and form.is_valid():
        said = form.cleaned_data
        company = access_company(viewer, said["company"].pk, Act.ENTER_PASSWORD)
        try:
            with transaction.atomic():
                disk_create(
                    company=company,
                    kind=DiskKind(said["kind"]),
                    device_no=said["device_no"],
                    terminal_no=said["terminal_no"],
                    device_password=said["device_password"],
                    certificate_password=said.get("certificate_password", ""),
                    now=clock.now(),
                )
        except ServiceError as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(
                request,
                _("税盘 %(no)s 已登记给 %(company)s，现在可以办理。")
                % {"no": said["device_no"], "company": company.short_name},
            )
            return redirect("company", company.pk)
    return render(
        request,
        "devices/unknown_add.html",
        {
            "form": form,
            "found": found,
            # The tax id is told, and none of this person's companies has it.
            "stranger": bool(found.slot.tax_id) and found.company is None,
        },
    )


def _found(slot_id: int, companies: QuerySet[Company]) -> UnknownDisk:
    """404 when there is no such slot here, or its disk is gone or known by now."""
    for found in unknown_disks(clock.real_now(), companies):
        if found.slot.pk == slot_id:
            return found
    raise Http404
