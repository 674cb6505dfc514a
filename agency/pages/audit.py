"""操作留痕: search the agency's trail by company, person, action and time."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_http_methods

from agency import audit, export, heads, qingka_verify
from agency.access import Viewer, companies_of, require
from agency.choices import Act, Action
from agency.clock import BEIJING, real_now
from agency.middleware import viewer_of
from agency.models import Company
from agency.pages.proof import recently_proven
from agency.selectors import AuditQuery, audit_entries, company_names

PER_PAGE = 50


class AuditForm(forms.Form):
    """What to look for; nothing is required."""

    company = forms.CharField(label=_("客户或税号"), required=False, max_length=60)
    person = forms.CharField(label=_("办理人"), required=False, max_length=60)
    action = forms.ChoiceField(label=_("操作"), required=False)
    since = forms.DateField(
        label=_("起"), required=False, widget=forms.DateInput({"type": "date"}, "%Y-%m-%d")
    )
    until = forms.DateField(
        label=_("止"), required=False, widget=forms.DateInput({"type": "date"}, "%Y-%m-%d")
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        field = self.fields["action"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101
        field.choices = [("", _("全部操作")), *Action.choices]

    def query(self) -> AuditQuery:
        """The valid part of what was asked; a field in error asks for nothing."""
        asked = self.cleaned_data if self.is_bound and hasattr(self, "cleaned_data") else {}
        return AuditQuery(**{name: value for name, value in asked.items() if value})


class ExportForm(forms.Form):
    """What to export: the whole trail, or what shows one client."""

    company: forms.ModelChoiceField[Company] = forms.ModelChoiceField(
        label=_("客户"),
        queryset=None,
        required=False,
        empty_label=_("整个机构"),
    )

    def __init__(self, *args: Any, viewer: Viewer, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["company"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101
        field.queryset = companies_of(viewer).order_by("short_name")


@recently_proven()
@require_http_methods(["GET", "POST"])
def export_page(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """The owner exports the trail."""
    viewer = viewer_of(request)
    require(viewer, Act.EXPORT_AUDIT)
    sent = request.method == "POST"
    form = ExportForm(request.POST if sent else None, viewer=viewer)
    if sent and form.is_valid():
        company: Company | None = form.cleaned_data["company"]
        company_id = company.pk if company is not None else None
        audit.record(Action.AUDIT_EXPORTED, company, company_id=company_id)
        moment = real_now().astimezone(BEIJING)
        what = f"-{company_id}" if company_id else ""
        return StreamingHttpResponse(
            export.lines(viewer.agency_id, company_id=company_id, now=moment),
            content_type="application/x-ndjson",
            headers={
                "Content-Disposition": f'attachment; filename="trail{what}-{moment:%Y%m%d}.jsonl"',
                "Cache-Control": "no-store",
            },
        )
    keys = {"key": heads.signing_key(), "former_keys": settings.AUDIT_FORMER_KEYS}
    return render(request, "agency/audit_export.html", {"form": form, **keys})


@require_GET
def verifier(request: HttpRequest) -> HttpResponse:
    """The stand-alone verifier: one file of source, for whoever gets an export."""
    require(viewer_of(request), Act.EXPORT_AUDIT)
    return HttpResponse(
        Path(qingka_verify.__file__).read_bytes(),
        content_type="text/x-python; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="qingka_verify.py"'},
    )


@require_GET
def trail(request: HttpRequest) -> HttpResponse:
    viewer = viewer_of(request)
    require(viewer, Act.SEE_AUDIT)
    form = AuditForm(request.GET or None)
    form.is_valid()
    page = Paginator(audit_entries(form.query()), PER_PAGE).get_page(request.GET.get("page"))
    names = company_names(entry.company_id for entry in page.object_list)
    entries = [(entry, names.get(entry.company_id or 0, "")) for entry in page.object_list]
    asked = {name: value for name, value in request.GET.items() if name != "page" and value}
    return render(
        request,
        "agency/audit.html",
        {
            "form": form,
            "page": page,
            "entries": entries,
            "query": urlencode(asked),
            "may_export": viewer.may(Act.EXPORT_AUDIT),
        },
    )
