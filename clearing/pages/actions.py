"""From ticks to work: one confirmation (写明办多少、跳过多少、为什么), then the act itself."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from agency import clock
from agency.access import Viewer
from agency.errors import ServiceError
from agency.middleware import viewer_of
from clearing import services
from clearing.pages.chosen import chosen_companies
from clearing.periods import current_period
from clearing.selectors.confirmation import (
    INTENTS,
    ActionKind,
    Preview,
    preview,
    right_for,
)
from devices.protocol.month import Month


@require_GET
def confirm(request: HttpRequest) -> HttpResponse:
    """What would happen; the key that makes a double click one batch is made here."""
    viewer = viewer_of(request)
    action = _action(request.GET.get("action", ""))
    now = clock.now()
    period = current_period(now)
    chosen = chosen_companies(viewer, request.GET, right_for(action), period, now.date())
    cause = request.GET.get("code", "")
    view = preview(action, chosen, period, now.date(), cause=cause)
    back = _back(request, request.GET.get("next", ""))
    if not view.companies:
        messages.warning(request, _("请先勾选客户。"))
        return redirect(back)
    return render(
        request,
        "clearing/confirm.html",
        {
            "view": view,
            "period": period,
            "key": str(uuid.uuid4()),
            "companies": ",".join(str(pk) for pk in chosen.values_list("pk", flat=True)),
            "cause": cause,
            "back": back,
            "is_batch": action in INTENTS or action == ActionKind.RETRY,
        },
    )


@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Do what was confirmed; what is skipped is decided afresh."""
    viewer = viewer_of(request)
    action = _action(request.POST.get("action", ""))
    now = clock.now()
    period = current_period(now)
    chosen = chosen_companies(viewer, request.POST, right_for(action), period, now.date())
    back = _back(request, request.POST.get("next", ""))
    if request.POST.get("period") != str(period):
        messages.error(request, _("确认之后已进入新属期，请重新确认。"))
        return redirect(back)
    view = preview(action, chosen, period, now.date(), cause=request.POST.get("code", ""))
    try:
        with transaction.atomic():
            batch_id = _act(request, viewer, view, period)
    except ServiceError as refusal:
        messages.error(request, str(refusal))
        return redirect(back)
    if batch_id is None:
        return redirect(back)
    return redirect(f"{reverse('home')}?batch={batch_id}")


def _act(request: HttpRequest, viewer: Viewer, view: Preview, period: Month) -> int | None:
    """Call the service and say what came of it; the id of the batch, where there is one."""
    now = clock.now()
    if view.action in INTENTS or view.action == ActionKind.RETRY:
        return _start_batch(request, viewer, view)
    if view.action == ActionKind.CANCEL:
        _cancel(request, viewer, view)
    elif view.action == ActionKind.HOLD:
        changed = services.hold(
            disk_ids=view.targets,
            note=request.POST.get("note", ""),
            by=viewer.name,
            real_now=clock.real_now(),
        )
        messages.success(request, _("已暂缓 %(n)s 只税盘。") % {"n": changed})
    elif view.action == ActionKind.RELEASE:
        changed = services.release_hold(
            disk_ids=view.targets, by=viewer.name, real_now=clock.real_now()
        )
        messages.success(request, _("已取消 %(n)s 只税盘的暂缓。") % {"n": changed})
    elif view.action == ActionKind.MARK_FILED:
        marked = services.mark_filed(
            company_ids=view.targets, period=str(period), by=viewer.name, now=now
        )
        messages.success(request, _("已标记 %(n)s 户申报。") % {"n": len(view.targets)})
        if marked.warned:
            messages.warning(
                request,
                _("其中 %(n)s 户还有税盘未抄报，一窗式比对可能不通过。")
                % {"n": len(marked.warned)},
            )
    else:
        services.unmark_filed(company_ids=view.targets, period=str(period), by=viewer.name, now=now)
        messages.success(request, _("已撤销 %(n)s 户的申报标记。") % {"n": len(view.targets)})
    return None


def _cancel(request: HttpRequest, viewer: Viewer, view: Preview) -> None:
    """Cancel each run for itself: one that ended since it was asked for keeps none from it."""
    ended = 0
    # In one order, so that two who cancel at once never wait for each other.
    for run_id in sorted(view.targets):
        try:
            services.run_cancel(run_id=run_id, by=viewer.name, now=clock.now())
        except ServiceError:
            ended += 1
    if cancelled := len(view.targets) - ended:
        messages.success(
            request, _("已取消 %(n)s 次办理；正在写盘的会在下一步之前停下。") % {"n": cancelled}
        )
    if ended:
        messages.warning(
            request, _("%(n)s 次办理此前已结束或结果待核实，没有取消。") % {"n": ended}
        )


def _start_batch(request: HttpRequest, viewer: Viewer, view: Preview) -> int:
    key = _key(request.POST.get("key", ""))
    now = clock.now()
    if view.action == ActionKind.RETRY:
        started = services.run_retry(run_ids=view.targets, key=key, started_by=viewer.name, now=now)
    else:
        started = services.batch_start(
            disk_ids=view.targets,
            intent=str(view.action.value),
            key=key,
            started_by=viewer.name,
            now=now,
        )
    messages.success(
        request,
        _("已开始：%(started)s 次新办理，%(joined)s 次已在办理并入。离开本页不影响办理。")
        % {"started": started.started, "joined": started.joined},
    )
    return started.batch.pk


def _action(value: str) -> ActionKind:
    if value not in ActionKind.values:
        raise Http404
    return ActionKind(value)


def _key(value: str) -> str:
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise ServiceError(_("页面已过期，请重新确认。")) from None


def _back(request: HttpRequest, wanted: str) -> str:
    """An address of this site to return to."""
    safe = url_has_allowed_host_and_scheme(wanted, allowed_hosts={request.get_host()})
    return wanted if safe and wanted.startswith("/") else reverse("home")
