"""What the operator sees of the agency layer during a support session."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from agency.models import AuditEntry, Company
from agency.operator.read_only import ReadOnly


class CompanyView(ReadOnly):
    columns = ("short_name", "name", "tax_id", "taxpayer_kind", "filing_frequency", "bureau")
    facts = (*columns, "tax_id_legacy", "clear_policy", "contact", "phone", "remark")
    search_fields = ("short_name", "name", "tax_id")
    list_select_related = ("bureau",)


class TrailView(ReadOnly):
    """The chain's salts and hashes are of no use to a reader."""

    columns = ("sequence", "at", "actor_kind", "actor_name", "action", "object_name", "data")
    facts = (*columns, "plan", "plan_changed_by", "company_id", "object_type", "object_id")
    labels = {
        "sequence": _("序号"),
        "actor_kind": _("身份"),
        "data": _("内容"),
        "company_id": _("客户编号"),
        "object_type": _("对象种类"),
        "object_id": _("对象编号"),
    }
    search_fields = ("actor_name", "object_name")
    ordering = ("-sequence",)


VIEWS: dict[type[models.Model], type[ReadOnly]] = {Company: CompanyView, AuditEntry: TrailView}
