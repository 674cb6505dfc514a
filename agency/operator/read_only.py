"""How the operator sees a tenant's table: a list and a page per row, to read and nothing else.

Shows the columns that are named and no other; no filter, sort key or search reaches further. Adds,
changes, deletes, actions and exports do not exist here.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.utils import display_for_field
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from agency.operator.visiting import in_the_agency, visited

if TYPE_CHECKING:
    _Admin = admin.ModelAdmin[Any]
else:
    _Admin = admin.ModelAdmin

_NOTHING = "–"


class ReadOnly(_Admin):
    """``columns`` of the list, ``facts`` of a row's page, ``labels`` where the model has none."""

    columns: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    labels: Mapping[str, Any] = {}

    actions = None
    ordering = ("-pk",)
    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    change_list_template = "operator/list.html"
    change_form_template = "operator/row.html"

    def __init__(self, model: type[Any], admin_site: admin.AdminSite) -> None:
        super().__init__(model, admin_site)
        self.list_display = tuple(self._column(name) for name in self.columns)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.facts

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        pages = (
            ("", self.changelist_view, "changelist"),
            ("<str:object_id>/", self.change_view, "change"),
        )
        return [
            path(
                route,
                self.admin_site.admin_view(require_GET(in_the_agency(view))),
                name=f"{name}_{end}",
            )
            for route, view, end in pages
        ]

    def label(self, name: str) -> Any:
        return self.labels.get(name) or self.opts.get_field(name).verbose_name  # type: ignore[union-attr]

    def _column(self, name: str) -> Callable[[models.Model], str]:
        @admin.display(description=self.label(name), ordering=name)
        def column(row: models.Model) -> str:
            return self.shown(row, name)

        return column

    def shown(self, row: models.Model, name: str) -> str:
        """A column of a row, as text."""
        field, value = self.opts.get_field(name), getattr(row, name)
        if isinstance(field, models.JSONField):
            return json.dumps(value, ensure_ascii=False) if value else _NOTHING
        if isinstance(value, bool):
            return _("是") if value else _("否")
        if isinstance(value, dt.datetime):
            return f"{timezone.localtime(value):%Y-%m-%d %H:%M:%S}"
        return str(display_for_field(value, field, _NOTHING)) or _NOTHING  # type: ignore[arg-type]

    def shown_facts(self, row: models.Model) -> Iterator[tuple[Any, str]]:
        for name in self.facts:
            yield self.label(name), self.shown(row, name)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context["facts"] = list(self.shown_facts(context["original"]))
        return super().render_change_form(request, context, *args, **kwargs)

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """404 for what is not there: the admin itself would go back to the start."""
        found = super().get_object(request, *args, **kwargs)
        if found is None:
            raise Http404
        return found

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return False  # an address could ask about any column

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return visited(request) is not None

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
