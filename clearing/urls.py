"""Addresses of the pages: board, companies, failures, batches; and those of the device layer."""

from django.urls import include, path

from clearing.pages import (
    actions,
    backups,
    batch,
    board,
    bureaus,
    by_hand,
    company,
    desk,
    failures,
    password,
    pin,
)

urlpatterns = [
    path("", board.home, name="home"),
    path("board/rows", board.rows, name="board-rows"),
    path("board/counters", board.counters, name="board-counters"),
    path("act/confirm", actions.confirm, name="act-confirm"),
    path("act/start", actions.start, name="act-start"),
    path("companies/<int:company_id>", company.page, name="company"),
    path("disks/<int:disk_id>/password", password.page, name="disk-password"),
    path("disks/<int:disk_id>/pin", pin.page, name="disk-pin"),
    path("disks/<int:disk_id>/start", desk.start, name="disk-start"),
    path("periods/<int:disk_period_id>/by-hand", by_hand.page, name="by-hand"),
    path("bureaus", bureaus.page, name="bureaus"),
    path("backups", backups.index, name="backups"),
    path("backups/<int:backup_id>", backups.page, name="backup"),
    path("backups/<int:backup_id>/download", backups.download, name="backup-download"),
    path("companies/<int:company_id>/backup-hold", backups.hold, name="backup-hold"),
    path("failures", failures.page, name="failures"),
    path("batches", batch.index, name="batch-list"),
    path("batches/<int:batch_id>", batch.page, name="batch"),
    path("", include("devices.urls")),
]
