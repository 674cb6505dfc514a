"""The platform operator's site (平台运维): Django's admin under ``/operator/``, read-only.

For everybody else its addresses do not exist. Without a support session it names the agencies and
says which consents; an agency's data are shown inside a session only (``visiting``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import URLPattern, URLResolver, include, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agency import support
from agency.clock import real_now
from agency.errors import ServiceError
from agency.models import Agency, User
from agency.operator import visiting
from agency.operator.read_only import ReadOnly
from agency.pages.context import NavigationEntry
from agency.pages.proof import recently_proven
from agency.selectors import AuditQuery, audit_entries

PER_PAGE = 50
AnyView = TypeVar("AnyView", bound=Callable[..., HttpResponseBase])


def _lengths() -> list[tuple[int, str]]:
    return [(minutes, _("%(n)s 分钟") % {"n": minutes}) for minutes in support.MINUTES]


class OpenForm(forms.Form):
    """Why, and for how long."""

    reason = forms.CharField(
        label=gettext_lazy("原因"), min_length=support.REASON_AT_LEAST, max_length=200
    )
    minutes = forms.TypedChoiceField(
        label=gettext_lazy("时长"),
        coerce=int,
        choices=_lengths,
    )


class OperatorSite(admin.AdminSite):
    """Has the addresses that are listed here; those of Django's admin for signing in, passwords
    and the like do not exist."""

    def register_views(self, views: Mapping[type[models.Model], type[ReadOnly]]) -> None:
        """The tables of one layer."""
        for model, view in views.items():
            self.register(model, view)

    def has_permission(self, request: HttpRequest) -> bool:
        return bool(getattr(request, "operator", False))

    def admin_view(self, view: AnyView, cacheable: bool = False) -> AnyView:
        """404 for everybody but the operator, before anything else is looked at."""
        guarded = super().admin_view(view, cacheable)

        def asked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not self.has_permission(request):
                raise Http404
            return guarded(request, *args, **kwargs)

        return cast(AnyView, update_wrapper(asked, view))

    def get_urls(self) -> list[URLPattern | URLResolver]:
        form = require_http_methods(["GET", "POST"])
        proven = recently_proven()
        urls: list[URLPattern | URLResolver] = [
            path("", self.admin_view(require_GET(self.agencies)), name="index"),
            path(
                "agencies/<int:agency_id>/open",
                self.admin_view(form(proven(self.open))),
                name="support-open",
            ),
            path("trail", self.admin_view(require_GET(self.trail)), name="trail"),
            path("leave", self.admin_view(require_POST(self.leave)), name="support-leave"),
        ]
        for model, view in self._registry.items():
            route = f"{model._meta.app_label}/{model._meta.model_name}/"
            urls.append(path(route, include(view.get_urls())))
        return urls

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        visit = visiting.visited(request)
        pages = [("index", _("机构")), ("trail", _("平台留痕"))]
        if visit is not None:
            names = (f"{m._meta.app_label}_{m._meta.model_name}_changelist" for m in self._registry)
            labels = (str(model._meta.verbose_name) for model in self._registry)
            pages += zip(names, labels, strict=True)
        index = reverse("operator:index")
        navigation = []
        for name, label in pages:
            url = reverse(f"operator:{name}")
            here = request.path == url if url == index else request.path.startswith(url)
            navigation.append(NavigationEntry(url, label, here))
        return {"visit": visit, "navigation": navigation}

    def agencies(self, request: HttpRequest) -> HttpResponse:
        """The agencies by name, and which consent."""
        wanted = request.GET.get("q", "").strip()
        agencies = Agency.objects.filter(name__icontains=wanted).order_by("name", "pk")
        page = Paginator(agencies, PER_PAGE).get_page(request.GET.get("page"))
        context = {"page": page, "wanted": wanted, "query": urlencode({"q": wanted})}
        return render(request, "operator/index.html", self.each_context(request) | context)

    def trail(self, request: HttpRequest) -> HttpResponse:
        """The platform's own chain, in whose scope the operator's requests run."""
        page = Paginator(audit_entries(AuditQuery()), PER_PAGE).get_page(request.GET.get("page"))
        context = {"page": page, "entries": [(entry, "") for entry in page.object_list]}
        return render(request, "operator/trail.html", self.each_context(request) | context)

    def open(self, request: HttpRequest, agency_id: int) -> HttpResponse:
        """Open a support session; one of this browser that runs elsewhere ends."""
        agency = Agency.objects.filter(pk=agency_id).first()
        if agency is None or not isinstance(request.user, User):
            raise Http404
        form = OpenForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                session = support.session_open(
                    operator=request.user, agency=agency, now=real_now(), **form.cleaned_data
                )
            except ServiceError as refusal:
                form.add_error(None, str(refusal))
            else:
                visiting.leave(request)
                visiting.remember(request, session)
                messages.success(request, _("支持会话已开启，对方能看到。"))
                return redirect("operator:index")
        context = {"form": form, "wanted": agency}
        return render(request, "operator/open.html", self.each_context(request) | context)

    def leave(self, request: HttpRequest) -> HttpResponse:
        """End the session of this browser."""
        visiting.leave(request)
        messages.success(request, _("支持会话已结束。"))
        return redirect("operator:index")


site = OperatorSite(name="operator")
