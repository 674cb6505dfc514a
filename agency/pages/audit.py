"""操作留痕: search the agency's trail by company, person, action and time."""

from __future__ import annotations

from urllib.parse import urlencode

from django import forms
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from agency.access import require
from agency.choices import Act, Action
from agency.middleware import viewer_of
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
        {"form": form, "page": page, "entries": entries, "query": urlencode(asked)},
    )
