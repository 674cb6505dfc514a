"""Addresses of the device layer."""

from django.urls import path

from devices.pages import imports, machines, unknown

urlpatterns = [
    path("machines", machines.index, name="machines"),
    path("machines/add", machines.add, name="machine-add"),
    path("machines/<int:machine_id>/roll", machines.roll, name="machine-roll"),
    path("machines/<int:machine_id>/revoke", machines.revoke, name="machine-revoke"),
    path("machines/<int:machine_id>/lost", machines.lost, name="machine-lost"),
    path("machines/<int:machine_id>/labels", machines.labels, name="machine-labels"),
    path("disks/unknown", unknown.index, name="unknown-disks"),
    path("disks/unknown/<int:slot_id>", unknown.add, name="unknown-disk-add"),
    path("import/", imports.upload, name="import-upload"),
    path("import/template.xlsx", imports.template, name="import-template"),
    path("import/<int:pk>/", imports.preview, name="import-preview"),
]
