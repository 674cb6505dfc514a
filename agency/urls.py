"""Addresses of the agency layer: signing in, choosing the agency, the trail, the pulse."""

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LogoutView
from django.urls import path
from django.views.decorators.http import require_POST
from django.views.i18n import set_language

from agency.pages import audit, session

urlpatterns = [
    path("login", session.LoginView.as_view(), name="login"),
    path("logout", LogoutView.as_view(), name="logout"),
    path("agency", session.switch_agency, name="agency-switch"),
    path("language", login_not_required(require_POST(set_language)), name="set_language"),
    path("audit", audit.trail, name="audit"),
    path("healthz", session.healthz, name="healthz"),
]
