"""Addresses of the machine API that need no run: enrolment."""

from django.urls import path

from devices.api.enrol import EnrolView

urlpatterns = [path("enrol", EnrolView.as_view(), name="machine-enrol")]
