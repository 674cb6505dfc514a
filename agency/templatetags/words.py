"""Filters for templates: dates in the form of the language, times of the database's own clock."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import template
from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from agency import clock

register = template.Library()


@register.filter
def day(value: dt.date | None) -> str:
    """4月20日; with the year when it is not the present one."""
    if value is None:
        return ""
    if value.year == clock.now().year:
        return date_format(value, _("n月j日"))
    return date_format(value, _("Y年n月j日"))


@register.filter
def day_of(value: dt.datetime | None) -> str:
    """The Beijing day of a moment."""
    return day(timezone.localtime(value).date()) if value else ""


@register.filter
def moment(value: dt.datetime | None) -> str:
    """3月9日 10:12, in Beijing time."""
    if value is None:
        return ""
    local = timezone.localtime(value)
    return f"{day(local.date())} {local:%H:%M}"


@register.filter
def real_moment(value: dt.datetime | None) -> str:
    """Like ``moment``, for a time of the database's clock: shown on the domain's shifted clock,
    so that a demo's rows agree with each other."""
    return moment(value + dt.timedelta(seconds=settings.CLOCK_OFFSET)) if value else ""


@register.filter
def month(value: Any) -> str:
    """2026年2月, from a Month or a ``YYYY-MM``."""
    year, _dash, number = str(value).partition("-")
    return date_format(dt.date(int(year), int(number), 1), _("Y年n月"))


@register.filter
def period_name(value: Any) -> str:
    """2026年2月属期."""
    return _("%(month)s属期") % {"month": month(value)}


#: What stands in a browser's own description of itself, the more particular ones first.
_BROWSERS = (
    ("MicroMessenger", gettext_lazy("微信")),
    ("DingTalk", gettext_lazy("钉钉")),
    ("Edg", "Edge"),
    ("QQBrowser", gettext_lazy("QQ 浏览器")),
    ("Firefox", "Firefox"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


@register.filter
def device_name(user_agent: str) -> str:
    """Chrome · Windows; of a program that is not known, the beginning of what it says."""
    named = [
        next((str(name) for sign, name in table if sign in user_agent), "")
        for table in (_BROWSERS, _SYSTEMS)
    ]
    return " · ".join(filter(None, named)) or user_agent[:60]


@register.filter
def words(value: str) -> str:
    """A text of the pure parts (marked with ``N_``), in the language of the request."""
    return _(value) if value else ""
