"""The pages of importing clients and disks: upload, preview with the mapping, confirm or cancel.

Passwords of the sheet are shown as dots and never leave the server. The mapping chosen by hand
travels in the address (which heading means which column is no secret), the rows never do.
"""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods

from agency import clock, spreadsheet
from agency.access import require
from agency.choices import Act
from agency.middleware import viewer_of
from devices import imports
from devices.import_types import PlannedRow, RowStatus
from devices.models import ImportDraft
from devices.sheet_columns import BY_KEY, COLUMNS
from devices.sheet_template import template_workbook
from devices.sheets import MAX_BYTES, MAX_COLUMNS, MAX_ROWS, SheetError

ROWS_PER_PAGE = 100
STATUS_LABELS = {
    RowStatus.NEW: gettext_lazy("新增"),
    RowStatus.UPDATE: gettext_lazy("更新"),
    RowStatus.SAME: gettext_lazy("不变"),
    RowStatus.ERROR: gettext_lazy("有错误"),
}
STATUS_COLOURS = {RowStatus.NEW: "green", RowStatus.UPDATE: "blue", RowStatus.ERROR: "red"}


class UploadForm(forms.Form):
    """The file; what it holds is for :mod:`devices.sheets` to say."""

    file = forms.FileField(
        label=gettext_lazy("Excel 文件"),
        allow_empty_file=True,  # the reader says it better
        widget=forms.ClearableFileInput(attrs={"accept": ".xlsx,.csv"}),
        error_messages={"required": gettext_lazy("请先选择文件。")},
    )


@require_http_methods(["GET", "POST"])
def upload(request: HttpRequest) -> HttpResponse:
    """Choose a file; a readable one leads on to its preview."""
    viewer = viewer_of(request)
    require(viewer, Act.IMPORT)
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST":
        form = UploadForm(request.POST, request.FILES)
        if form.is_valid():
            file = form.cleaned_data["file"]
            # One byte beyond the limit is enough for the reader to refuse it.
            try:
                draft = imports.draft_from_upload(
                    agency_id=viewer.agency_id,
                    user_id=viewer.user_id,
                    file_name=file.name,
                    data=file.read(MAX_BYTES + 1),
                    now=clock.now(),
                )
                return redirect("import-preview", pk=draft.pk)
            except SheetError as error:
                form.add_error("file", str(error))
    return render(
        request,
        "devices/import_upload.html",
        {"form": form, "columns": COLUMNS, "max_mb": MAX_BYTES >> 20, "max_rows": MAX_ROWS},
        status=400 if form.errors else 200,
    )


@require_GET
def template(request: HttpRequest) -> HttpResponse:
    """A sheet to fill in."""
    require(viewer_of(request), Act.IMPORT)
    return spreadsheet.answer(template_workbook(), "qingka-import.xlsx")


@require_http_methods(["GET", "POST"])
def preview(request: HttpRequest, pk: int) -> HttpResponse:
    """What the sheet would do. POST ``action``: ``confirm`` or ``cancel``."""
    viewer = viewer_of(request)
    require(viewer, Act.IMPORT)
    now = clock.now()
    draft = imports.draft_find(pk, user_id=viewer.user_id, now=now)
    if draft is None:
        raise Http404
    if request.method == "GET":
        return _show(request, draft)
    if request.POST.get("action") == "cancel":
        imports.draft_discard(draft)
        messages.info(request, _("已取消导入，没有写入任何数据。"))
        return redirect("import-upload")
    try:
        result = imports.confirm(draft, _mapping(request.POST), now=now)
    except imports.ImportRefused as refusal:
        messages.error(request, str(refusal))
        return _show(request, draft)
    messages.success(
        request,
        _(
            "导入完成：新增客户 %(companies_new)d 户、更新 %(companies_updated)d 户，"
            "新增税盘 %(disks_new)d 个、更新 %(disks_updated)d 个。"
        )
        % {
            "companies_new": result.companies_new,
            "companies_updated": result.companies_updated,
            "disks_new": result.disks_new,
            "disks_updated": result.disks_updated,
        },
    )
    return redirect("home")


def _mapping(chosen: QueryDict) -> dict[int, str] | None:
    """``c0=tax_id&c1=…`` as a mapping; None where nothing was chosen."""
    mapping = {
        index: str(chosen[f"c{index}"]) for index in range(MAX_COLUMNS) if f"c{index}" in chosen
    }
    return mapping or None


def _show(request: HttpRequest, draft: ImportDraft) -> HttpResponse:
    """The preview for the mapping in the request; 409 when it answers a refused confirmation."""
    asked = request.POST if request.method == "POST" else request.GET
    found = imports.preview(draft, _mapping(asked))
    page = Paginator(found.rows, ROWS_PER_PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "devices/import_preview.html",
        {
            "draft": draft,
            "preview": found,
            "choices": COLUMNS,
            "page": page,
            "rows": [_shown(found, row) for row in page],
            "totals": [(label, found.counts[status]) for status, label in STATUS_LABELS.items()],
            "query": "&".join(f"c{index}={key}" for index, key in found.mapping.items()),
        },
        status=409 if request.method == "POST" else 200,
    )


def _shown(found: imports.Preview, row: PlannedRow) -> dict[str, object]:
    return {
        "number": row.number,
        "label": STATUS_LABELS[row.status],
        "colour": STATUS_COLOURS.get(row.status, ""),
        "errors": row.errors,
        "notes": row.notes,
        "fields": [BY_KEY[key].label for key in row.fields],
        "cells": found.shown(row),
    }
