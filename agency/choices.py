"""Words of the agency layer that stand in the database, and the one list of audit actions."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _


class Role(models.TextChoices):
    OWNER = "owner", _("负责人")
    SUPERVISOR = "supervisor", _("主管")
    BOOKKEEPER = "bookkeeper", _("记账会计")
    FRONT_DESK = "front_desk", _("前台")
    CLIENT = "client", _("企业客户")


class Act(models.TextChoices):
    """What a right is asked for; the label completes 您没有"…"的权限."""

    SEE = "see", _("查看客户")
    RUN = "run", _("办理抄报清卡")
    START_WAITING = "start_waiting", _("办理柜台上待插盘的税盘")
    MARK_FILED = "mark_filed", _("标记已申报")
    HOLD = "hold", _("暂缓办理")
    PAUSE = "pause", _("暂停或恢复税局")
    ENTER_PASSWORD = "enter_password", _("录入口令")
    PIN_WAY_OUT = "pin_way_out", _("处理 PIN 待确认")
    BY_HAND = "by_hand", _("人工登记")
    IMPORT = "import", _("导入客户")
    ASSIGN = "assign", _("分派客户")
    MACHINES = "machines", _("管理读盘机")
    REVIEW = "review", _("处理失败")
    SEE_AUDIT = "see_audit", _("查看操作留痕")
    EXPORT_AUDIT = "export_audit", _("导出操作留痕")
    MEMBERS = "members", _("管理成员")
    SUPPORT_CONSENT = "support_consent", _("同意或撤回平台支持")
    CUSTODY = "custody", _("收还盘")
    OPEN_BACKUP = "open_backup", _("查看备份")
    KEEP_BACKUPS = "keep_backups", _("管理备份")
    CLIENT_LINKS = "client_links", _("开通企业专属链接")


class SecondFactor(models.TextChoices):
    """Of whom an agency demands a second factor (a code besides the password)."""

    NOBODY = "nobody", _("不要求")
    LEADS = "leads", _("负责人和主管")
    ALL = "all", _("全体人员")


class TaxpayerKind(models.TextChoices):
    GENERAL = "general", _("一般纳税人")
    SMALL = "small", _("小规模纳税人")


class FilingFrequency(models.TextChoices):
    MONTHLY = "monthly", _("按月")
    QUARTERLY = "quarterly", _("按季")


class ClearPolicy(models.TextChoices):
    AFTER_FILING = "after_filing", _("申报后清卡")
    TRY = "try", _("直接尝试")


class ActorKind(models.TextChoices):
    USER = "user", _("人员")
    MACHINE = "machine", _("读盘机")
    SYSTEM = "system", _("系统")
    OPERATOR = "operator", _("平台运维")
    UNKNOWN = "unknown", _("未登录者")


class Action(models.TextChoices):
    """Every action of the audit trail, of all layers; dotted object.verb."""

    AGENCY_CREATED = "agency.created", _("建立机构")
    MEMBER_ADDED = "member.added", _("添加成员")
    MEMBER_INVITED = "member.invited", _("邀请成员")
    INVITATION_REVOKED = "member.invitation_revoked", _("撤回邀请")
    MEMBER_JOINED = "member.joined", _("接受邀请加入")
    MEMBER_ROLE_CHANGED = "member.role_changed", _("更改成员角色")
    MEMBER_REMOVED = "member.removed", _("移除成员")
    MEMBER_COVERED = "member.covered", _("安排代班")
    MEMBER_COVER_ENDED = "member.cover_ended", _("结束代班")
    SIGNED_IN = "member.signed_in", _("登录")
    SIGN_IN_REFUSED = "member.sign_in_refused", _("登录未成功")
    PROOF_REFUSED = "member.proof_refused", _("身份确认未通过")
    PASSWORD_CHANGED = "member.password_changed", _("更改登录口令")
    SESSIONS_ENDED = "member.sessions_ended", _("退出其他设备")
    SECOND_FACTOR_ON = "member.second_factor_on", _("启用两步验证")
    SECOND_FACTOR_OFF = "member.second_factor_off", _("停用两步验证")
    RECOVERY_CODES_MADE = "member.recovery_codes_made", _("生成恢复码")
    SECOND_FACTOR_RESET = "member.second_factor_reset", _("重设成员的两步验证")
    PASSWORD_LINK_MADE = "member.password_link_made", _("生成新口令链接")
    PASSWORD_RENEWED = "member.password_renewed", _("经链接设置新口令")
    SECOND_FACTOR_DEMANDED = "agency.second_factor", _("更改两步验证要求")
    CLIENT_LINK_CREATED = "client_link.created", _("开通企业专属链接")
    CLIENT_LINK_REVOKED = "client_link.revoked", _("停用企业专属链接")
    CLIENT_LINK_USED = "client_link.used", _("经专属链接进入")
    LINK_REFUSED = "access.link_refused", _("链接或邀请无效")
    SUPPORT_ALLOWED = "support.allowed", _("同意平台支持")
    SUPPORT_WITHDRAWN = "support.withdrawn", _("撤回平台支持")
    SUPPORT_OPENED = "support.opened", _("平台开启支持会话")
    SUPPORT_ENDED = "support.ended", _("支持会话提前结束")
    SUPPORT_LOOKED = "support.looked", _("平台查看数据")
    ACCESS_REFUSED = "access.refused", _("拒绝访问")
    AUDIT_EXPORTED = "audit.exported", _("导出操作留痕")
    HEADS_HANDED_OVER = "audit.heads_handed_over", _("送出每日签名")
    HEADS_FAILED = "audit.heads_failed", _("每日签名未能送出")
    CHAIN_BROKEN = "audit.chain_broken", _("报警：操作留痕与已签名的记录不符")
    COMPANY_CREATED = "company.created", _("新增客户")
    COMPANY_CHANGED = "company.changed", _("修改客户")
    COMPANY_ASSIGNED = "company.assigned", _("分派客户")
    COMPANY_UNASSIGNED = "company.unassigned", _("取消分派")
    CLIENTS_IMPORTED = "clients.imported", _("导入客户与税盘")
    MACHINE_CREATED = "machine.created", _("登记读盘机")
    MACHINE_CODE_CREATED = "machine.code_created", _("生成读盘机登记码")
    MACHINE_CODE_REFUSED = "machine.code_refused", _("登记码被拒绝")
    MACHINE_TOKEN_REFUSED = "machine.token_refused", _("读盘机密钥被拒绝")
    MACHINE_ENROLLED = "machine.enrolled", _("读盘机取得密钥")
    MACHINE_ROLLED = "machine.rolled", _("更换读盘机密钥")
    MACHINE_REVOKED = "machine.revoked", _("停用读盘机")
    MACHINE_DECLARED_LOST = "machine.declared_lost", _("读盘机申明丢失")
    DISK_ADDED = "disk.added", _("新增税盘")
    DISK_CHANGED = "disk.changed", _("修改税盘")
    DISK_BOUND = "disk.bound", _("识别盘号")
    DISK_PASSWORD_ENTERED = "disk.password_entered", _("录入口令")
    DISK_PASSWORD_REFUSED = "disk.password_refused", _("口令被税盘拒绝")
    DISK_PIN_INTENT = "disk.pin_intent", _("准备更换卡内 PIN")
    DISK_PIN_ROLLED = "disk.pin_rolled", _("卡内 PIN 已更换")
    DISK_PIN_UNKNOWN = "disk.pin_unknown", _("PIN 待确认")
    DISK_PIN_TRY_ALLOWED = "disk.pin_try_allowed", _("准予再试一次原 PIN")
    DISK_ALARM_TAX_ID = "disk.alarm_tax_id", _("报警：盘上税号与登记客户不符")
    DISK_ALARM_TWO_MACHINES = "disk.alarm_two_machines", _("报警：同一税盘出现在两台读盘机")
    BATCH_STARTED = "batch.started", _("开始批次")
    BATCH_ENDED = "batch.ended", _("批次结束")
    RUN_QUEUED = "run.queued", _("排队办理")
    RUN_JOINED = "run.joined", _("并入已在办理")
    RUN_WALK_IN = "run.walk_in", _("柜台开始办理")
    RUN_CLAIMED = "run.claimed", _("读盘机领取")
    RUN_REPORT_ALLOWED = "run.report_allowed", _("准予抄报")
    RUN_CLEAR_ALLOWED = "run.clear_allowed", _("准予清卡")
    RUN_DENIED = "run.denied", _("未准予写盘")
    RUN_BACKUP_KEPT = "run.backup_kept", _("备份已核验")
    RUN_SETTLED = "run.settled", _("办理结束")
    RUN_RELEASED = "run.released", _("读盘机放弃办理")
    RUN_LEASE_OVER = "run.lease_over", _("读盘机失联")
    RUN_RETRIED = "run.retried", _("重试")
    RUN_CANCELLED = "run.cancelled", _("取消")
    RUN_UNKNOWN_NOTICE = "run.unknown_notice", _("提醒：结果待核实")
    DISK_HELD = "disk.held", _("暂缓办理")
    DISK_RELEASED = "disk.released", _("取消暂缓")
    BUREAU_PAUSED = "bureau.paused", _("暂停税局")
    BUREAU_RESUMED = "bureau.resumed", _("恢复税局")
    PERIOD_REPORTED = "period.reported", _("读盘确认已抄报")
    PERIOD_CLEARED = "period.cleared", _("读盘确认已清卡")
    PERIOD_FILED = "period.filed", _("标记已申报")
    PERIOD_UNFILED = "period.unfiled", _("撤销已申报标记")
    PERIOD_BY_HAND = "period.by_hand", _("人工登记")
    BACKUP_OPENED = "backup.opened", _("查看备份")
    BACKUP_DOWNLOADED = "backup.downloaded", _("下载备份")
    BACKUP_DAMAGED = "backup.damaged", _("备份打不开")
    BACKUP_DELETED = "backup.deleted", _("备份到期删除")
    BACKUPS_CHECKED = "backups.checked", _("核验备份")
    BACKUPS_HELD = "backups.held", _("冻结备份")
    BACKUPS_HOLD_LIFTED = "backups.hold_lifted", _("解除备份冻结")
    BACKUP_YEARS_CHANGED = "backups.years_changed", _("调整备份保存年限")


def actions() -> list[tuple[str, Any]]:
    """The choices of the trail's column: as a callable, so that a new action is no migration."""
    return Action.choices
