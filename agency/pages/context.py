"""What every page of the site knows: who looks, in which agency, and where they may go."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy as _

from agency import clock, support
from agency.access import Viewer
from agency.choices import Act, Role
from agency.selectors import agencies_of

# (name of the address, words, right); the first is for everybody.
NAVIGATION = (
    ("home", _("本月清卡"), None),
    ("failures", _("失败处理"), Act.REVIEW),
    ("batch-list", _("批次"), Act.RUN),
    ("import-upload", _("导入客户"), Act.IMPORT),
    ("unknown-disks", _("未登记税盘"), Act.ENTER_PASSWORD),
    ("machines", _("读盘机"), Act.MACHINES),
    ("bureaus", _("税局"), Act.PAUSE),
    ("backups", _("备份"), Act.KEEP_BACKUPS),
    ("members", _("成员"), Act.ASSIGN),
    ("audit", _("操作留痕"), Act.SEE_AUDIT),
)


@dataclass(frozen=True, slots=True)
class NavigationEntry:
    """A link of the head of the page."""

    url: str
    label: str
    here: bool


def navigation(viewer: Viewer | None, path: str) -> list[NavigationEntry]:
    """The links for this viewer's role; nobody's and a client's head has none."""
    if viewer is None or viewer.role == Role.CLIENT:
        return []
    entries = []
    for name, label, act in NAVIGATION:
        if act is not None and not viewer.may(act):
            continue
        try:
            url = reverse(name)
        except NoReverseMatch:  # a layer that is not installed
            continue
        here = path == url if url == "/" else path.startswith(url)
        entries.append(NavigationEntry(url, str(label), here))
    return entries


def shifted_clock() -> dt.datetime | None:
    """The domain's time where it is not the wall clock's (demo, training), else None."""
    return clock.now() if settings.CLOCK_OFFSET else None


def site(request: HttpRequest) -> dict[str, Any]:
    """The context processor named in the settings; asks the database only where a page looks."""
    viewer: Viewer | None = getattr(request, "viewer", None)
    agency = getattr(request, "agency", None)
    seen_by = agency if viewer is not None and viewer.role != Role.CLIENT else None
    return {
        "viewer": viewer,
        "agency": agency,
        "practice": agency.practice if agency is not None else settings.PRACTICE,
        "shifted_clock": shifted_clock(),
        "support_sessions": SimpleLazyObject(
            lambda: support.running_in(seen_by) if seen_by is not None else []
        ),
        "may_end_support": viewer is not None and viewer.may(Act.SUPPORT_CONSENT),
        "navigation": navigation(viewer, request.path),
        "my_agencies": SimpleLazyObject(
            lambda: agencies_of(viewer.user_id) if viewer is not None else []
        ),
    }
