"""The client's page: is my month done, until when can I issue invoices, whom do I call?

Shows the viewer's own companies and writes nothing. Only what was read back counts as done.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from agency import clock
from agency.access import Viewer, companies_of
from agency.choices import Role
from agency.models import Assignment
from clearing.periods import current_period
from clearing.selectors.board import Row, complete, rows_of
from clearing.selectors.company import PastMonth, months_by_company
from clearing.selectors.deadlines import window_of
from clearing.selectors.standing import Standing
from clearing.selectors.words import CLIENT_STEPS, Party


@dataclass(frozen=True, slots=True)
class ClientCompany:
    """A company as its own people see it."""

    row: Row
    contacts: list[str]
    months: list[PastMonth]

    @property
    def answer(self) -> str:
        """One clear sentence."""
        standing = self.row.standing
        if standing == Standing.CLEARED:
            return _("本月已清卡")
        if standing == Standing.NOTHING:
            return _("无需清卡 (数电)")
        if standing == Standing.BY_HAND:
            return _("已人工登记，尚未读盘核实")
        if standing == Standing.NEEDS:
            return _("本月尚未清卡，代账机构正在处理")
        return _("本月尚未清卡")

    @property
    def colour(self) -> str:
        calm = {Standing.CLEARED: "green", Standing.NOTHING: "grey", Standing.BY_HAND: "violet"}
        return calm.get(self.row.standing, "amber")

    @property
    def cleared_at(self) -> dt.datetime | None:
        times = [disk.cleared_at for disk in self.row.disks if disk.counts and disk.cleared_at]
        return max(times) if times and self.row.standing == Standing.CLEARED else None

    @property
    def asked(self) -> list[str]:
        """What the agency waits for from the client."""
        entries = [
            disk.trouble.entry
            for disk in self.row.disks
            if disk.counts and disk.trouble is not None and disk.party == Party.CLIENT
        ]
        wanted = [
            str(CLIENT_STEPS[entry.code])
            for entry in entries
            if entry is not None and entry.code in CLIENT_STEPS
        ]
        if any(disk.absent for disk in self.row.disks if disk.counts):
            wanted.append(_("代账机构在等税盘插上；如税盘在您手里，请送来。"))
        return list(dict.fromkeys(wanted))


def page(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """All companies of the person, one after the other."""
    now = clock.now()
    period = current_period(now)
    mine = companies_of(viewer)
    rows = rows_of(mine, period, now.date())
    complete(rows, period)
    contacts = _contacts([row.id for row in rows])
    before = months_by_company(mine, period)
    companies = [
        ClientCompany(row, contacts.get(row.id, []), before.get(row.id, [])) for row in rows
    ]
    return render(
        request,
        "clearing/client.html",
        {"companies": companies, "window": window_of(period, now)},
    )


def _contacts(companies: list[int]) -> dict[int, list[str]]:
    """The bookkeepers of each company, by name."""
    found: dict[int, list[str]] = {}
    for company_id, name in (
        Assignment.objects.filter(
            company__in=companies,
            membership__role=Role.BOOKKEEPER,
            membership__active=True,
        )
        .order_by("membership_id")
        .values_list("company_id", "membership__name")
    ):
        found.setdefault(company_id, []).append(name)
    return found
