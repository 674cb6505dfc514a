"""Addresses of the device layer."""

from django.urls import path

from devices.pages import imports

urlpatterns = [
    path("import/", imports.upload, name="import-upload"),
    path("import/template.xlsx", imports.template, name="import-template"),
    path("import/<int:pk>/", imports.preview, name="import-preview"),
]
