"""Agencies, their people, their client companies, and the audit trail."""

from __future__ import annotations

import datetime as dt

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from agency.choices import (
    ActorKind,
    ClearPolicy,
    FilingFrequency,
    Role,
    SecondFactor,
    TaxpayerKind,
    actions,
)
from agency.tenancy import TenantForeignKey, TenantModel

# 会计档案管理办法 (财政部、国家档案局令第 79 号): tax returns and their like, ten years.
BACKUP_YEARS_BY_LAW = 10


class User(AbstractUser):
    """A person who can sign in; what they may do hangs on their memberships.

    Signing in does not tell capitals from small letters, so no two names may differ in them alone:
    neither of the two could sign in."""

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(
                Lower("username"),
                name="one_account_per_username",
                violation_error_message=_("这个账号已有人使用，请换一个（不区分大小写）。"),
            )
        ]


# Not an agency but the platform itself: the row that acts without an agency are recorded under.
PLATFORM = 0


class AgencyManager(models.Manager["Agency"]):
    """The agencies; the platform's own row is none and has to be asked for by its id."""

    def get_queryset(self) -> models.QuerySet[Agency]:
        return super().get_queryset().exclude(pk=PLATFORM)


class Agency(models.Model):
    """A bookkeeping agency (代账公司). Id and name carry no policy: they are needed to sign in."""

    name = models.CharField(_("机构名称"), max_length=100)
    # A practice agency may use simulated disks and the stand-in bureau, and says so on every page.
    practice = models.BooleanField(_("练习机构"), default=False)
    bookkeepers_may_import = models.BooleanField(_("记账会计可以导入客户"), default=False)
    backup_years = models.PositiveSmallIntegerField(_("备份保存年限"), default=BACKUP_YEARS_BY_LAW)
    second_factor = models.CharField(
        _("两步验证"), max_length=8, choices=SecondFactor, default=SecondFactor.LEADS
    )
    # Whether the platform's operator may open a support session; the owner's to say.
    support_consent = models.BooleanField(_("同意平台支持"), default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = AgencyManager()

    class Meta:
        verbose_name = _("代账机构")
        constraints = [
            models.CheckConstraint(
                condition=Q(backup_years__gte=BACKUP_YEARS_BY_LAW, backup_years__lte=100),
                name="backups_kept_as_the_law_asks",
            )
        ]

    def __str__(self) -> str:
        return self.name


class Bureau(models.Model):
    """A tax bureau (主管税务机关) and where its server is reached; the same for all agencies."""

    code = models.CharField(_("税务机关代码"), max_length=11, unique=True)
    name = models.CharField(_("税务机关名称"), max_length=80, unique=True)
    address = models.URLField(_("服务地址"), blank=True)
    simulated = models.BooleanField(_("模拟"), default=False)

    class Meta:
        verbose_name = _("税务机关")

    def __str__(self) -> str:
        return self.name


class Membership(TenantModel):
    """A person in an agency, with a role; a person can belong to several agencies."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(_("姓名"), max_length=50)
    role = models.CharField(_("角色"), max_length=16, choices=Role)
    active = models.BooleanField(_("在用"), default=True)
    # Somebody reset the person's way in (agency.way_back): told at the next sign-in, then emptied.
    reset_at = models.DateTimeField(null=True)
    reset_by = models.CharField(max_length=100, blank=True)

    class Meta:
        verbose_name = _("成员")
        constraints = [
            models.UniqueConstraint(fields=["agency", "user"], name="one_membership_per_agency")
        ]

    def __str__(self) -> str:
        return self.name


class Company(TenantModel):
    """A client company (客户). Its tax disks live in ``devices``."""

    short_name = models.CharField(_("客户简称"), max_length=40)
    name = models.CharField(_("企业名称"), max_length=100)
    tax_id = models.CharField(_("税号"), max_length=20)
    # An older 15- or 20-character number: accepted, marked, not checkable by GB 32100.
    tax_id_legacy = models.BooleanField(_("旧税号"), default=False)
    taxpayer_kind = models.CharField(
        _("纳税人类型"), max_length=8, choices=TaxpayerKind, default=TaxpayerKind.SMALL
    )
    filing_frequency = models.CharField(
        _("申报周期"), max_length=10, choices=FilingFrequency, default=FilingFrequency.QUARTERLY
    )
    bureau = models.ForeignKey(
        Bureau,
        on_delete=models.PROTECT,
        related_name="+",
        null=True,
        verbose_name=_("主管税务机关"),
    )
    clear_policy = models.CharField(
        _("清卡时机"), max_length=12, choices=ClearPolicy, default=ClearPolicy.AFTER_FILING
    )
    contact = models.CharField(_("联系人"), max_length=50, blank=True)
    phone = models.CharField(_("电话"), max_length=30, blank=True)
    remark = models.CharField(_("备注"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("客户")
        constraints = [
            models.UniqueConstraint(fields=["agency", "tax_id"], name="one_company_per_tax_id")
        ]

    def __str__(self) -> str:
        return self.short_name


class Assignment(TenantModel):
    """A company in the hands of a bookkeeper, or shown to the client's own person."""

    company = TenantForeignKey(Company, on_delete=models.CASCADE, related_name="assignments")
    membership = TenantForeignKey(Membership, on_delete=models.CASCADE, related_name="assignments")

    class Meta:
        verbose_name = _("分派")
        constraints = [
            models.UniqueConstraint(
                fields=["agency", "company", "membership"], name="one_assignment_per_person"
            )
        ]


class Cover(TenantModel):
    """代班: from ``since`` to ``until`` (both days included) one person has another's companies."""

    absent = TenantForeignKey(Membership, on_delete=models.CASCADE, related_name="covered_by")
    substitute = TenantForeignKey(Membership, on_delete=models.CASCADE, related_name="covers")
    since = models.DateField(_("起"))
    until = models.DateField(_("止"))

    class Meta:
        verbose_name = _("代班")
        constraints = [
            models.CheckConstraint(condition=Q(until__gte=F("since")), name="cover_ends_later"),
            models.CheckConstraint(
                condition=~Q(absent=F("substitute")), name="nobody_covers_themselves"
            ),
        ]


class Invitation(TenantModel):
    """A link by which one person joins with a role; kept as a hash, good once and for a while."""

    token_hash = models.BinaryField(max_length=32)
    name = models.CharField(_("姓名"), max_length=50)
    role = models.CharField(_("角色"), max_length=16, choices=Role)
    invited_by = models.CharField(_("邀请人"), max_length=100)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("邀请")
        indexes = [models.Index(fields=["token_hash"], name="invitation_token")]

    def __str__(self) -> str:
        return self.name


class ClientLink(TenantModel):
    """专属链接: the way in of a client's own person, who has no password; kept as a hash."""

    membership = TenantForeignKey(Membership, on_delete=models.CASCADE, related_name="links")
    token_hash = models.BinaryField(max_length=32)
    created_by = models.CharField(_("开通人"), max_length=100)
    created_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("专属链接")
        indexes = [models.Index(fields=["token_hash"], name="client_link_token")]


#: No support session is longer.
SUPPORT_AT_MOST = dt.timedelta(minutes=60)


class SupportSession(TenantModel):
    """支持会话: for a while the platform's operator may read this agency's data, for a reason."""

    # A plain number and a name, not a foreign key: the row outlives the account.
    operator_id = models.BigIntegerField()
    operator_name = models.CharField(_("平台运维"), max_length=100)
    reason = models.CharField(_("原因"), max_length=200)
    opened_at = models.DateTimeField(_("开启时间"))
    expires_at = models.DateTimeField(_("到期时间"))
    ended_at = models.DateTimeField(_("结束时间"), null=True)
    ended_by = models.CharField(max_length=100, blank=True)

    class Meta:
        verbose_name = _("支持会话")
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="support_says_why"),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("opened_at"))
                & Q(expires_at__lte=F("opened_at") + SUPPORT_AT_MOST),
                name="support_ends_by_itself",
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True, ended_by="")
                | (Q(ended_at__isnull=False) & ~Q(ended_by="")),
                name="support_ended_by_somebody",
            ),
        ]
        indexes = [models.Index(fields=["agency", "expires_at"], name="support_running")]

    def __str__(self) -> str:
        return self.operator_name


class AuditHead(TenantModel):
    """The end of an agency's chain; locked while entries are appended."""

    sequence = models.BigIntegerField(default=0)
    hash = models.BinaryField(default=bytes(32))

    class Meta:
        constraints = [models.UniqueConstraint(fields=["agency"], name="one_audit_head_per_agency")]


class AuditEntry(TenantModel):
    """One entry of the trail (操作留痕). The database refuses UPDATE, DELETE and TRUNCATE."""

    sequence = models.BigIntegerField()
    at = models.DateTimeField(_("时间"))
    actor_kind = models.CharField(max_length=8, choices=ActorKind)
    actor_id = models.BigIntegerField(null=True)
    actor_name = models.CharField(_("办理人"), max_length=100)
    # An act that happens by itself names its plan, and who changed that plan last.
    plan = models.CharField(_("计划"), max_length=100, blank=True)
    plan_changed_by = models.CharField(_("计划最后修改人"), max_length=100, blank=True)
    action = models.CharField(_("操作"), max_length=40, choices=actions)
    # Plain numbers, not foreign keys: the trail outlives what it speaks of.
    company_id = models.BigIntegerField(null=True)
    object_type = models.CharField(max_length=40, blank=True)
    object_id = models.BigIntegerField(null=True)
    object_name = models.CharField(_("对象"), max_length=120, blank=True)
    data = models.JSONField(default=dict)
    request_id = models.CharField(max_length=36, blank=True)
    salt = models.BinaryField()
    content_hash = models.BinaryField()
    previous_hash = models.BinaryField()
    hash = models.BinaryField()

    class Meta:
        verbose_name = _("操作留痕")
        constraints = [
            models.UniqueConstraint(fields=["agency", "sequence"], name="audit_without_gaps"),
            models.CheckConstraint(condition=Q(sequence__gt=0), name="audit_sequence_positive"),
        ]
        indexes = [models.Index(fields=["agency", "company_id", "-sequence"], name="audit_company")]


class RefusalCount(TenantModel):
    """Equal refusals of one minute; those after the first are recorded together when it is over."""

    minute = models.DateTimeField()
    digest = models.CharField(max_length=64)
    entry = models.JSONField()
    count = models.IntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["agency", "minute", "digest"], name="one_count_per_refusal"
            )
        ]


class SignedHead(models.Model):
    """The end of a chain as it was signed on a day. Hashes only; no agency's data, so no policy.

    The database refuses UPDATE, DELETE and TRUNCATE; what proves anything is the copy outside."""

    day = models.DateField()
    agency = models.ForeignKey(Agency, on_delete=models.PROTECT, related_name="+")
    sequence = models.BigIntegerField()
    hash = models.BinaryField()
    at = models.DateTimeField()
    key = models.CharField(max_length=16)
    signature = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["agency", "day"], name="one_signed_head_per_day")
        ]

    def __str__(self) -> str:
        return f"{self.agency_id} {self.day} {self.sequence}"


class HeadHandOver(models.Model):
    """A day's signed heads have reached a place outside the database."""

    day = models.DateField()
    place = models.CharField(max_length=200)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["day", "place"], name="one_hand_over_per_place")
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.place}"
