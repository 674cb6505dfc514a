"""Addresses of the machine API."""

from django.urls import path

from clearing.api import machine

urlpatterns = [
    path("presence", machine.PresenceView.as_view(), name="machine-presence"),
    path("claim", machine.ClaimView.as_view(), name="machine-claim"),
    path("runs/<int:run_id>/intend", machine.IntendView.as_view(), name="machine-intend"),
    path("runs/<int:run_id>/record", machine.RecordView.as_view(), name="machine-record"),
    path("runs/<int:run_id>/keep", machine.KeepView.as_view(), name="machine-keep"),
    path("runs/<int:run_id>/renew", machine.RenewView.as_view(), name="machine-renew"),
    path("runs/<int:run_id>/settle", machine.SettleView.as_view(), name="machine-settle"),
    path("runs/<int:run_id>/release", machine.ReleaseView.as_view(), name="machine-release"),
]
