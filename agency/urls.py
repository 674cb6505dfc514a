"""Addresses of the agency layer: signing in, the account, people, the trail, the pulse.

Of allauth's pages those are here that are used, under the names it looks for; no other exists.
"""

from allauth.account import views as account
from allauth.mfa.base import views as mfa
from django.contrib.auth.decorators import login_not_required
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST
from django.views.i18n import set_language

from agency.pages import (
    audit,
    client_links,
    invitation,
    members,
    second_factor,
    session,
    sessions,
    support,
    way_back,
)
from agency.pages.proof import recently_proven

proven = recently_proven()
form = require_http_methods(["GET", "POST"])  # a FormView takes PUT for POST

urlpatterns = [
    path("login", session.LoginView.as_view(), name="account_login"),
    path("login/code", form(mfa.authenticate), name="mfa_authenticate"),
    path("logout", session.LogoutView.as_view(), name="logout"),
    path("again", form(account.reauthenticate), name="account_reauthenticate"),
    path("again/code", form(mfa.reauthenticate), name="mfa_reauthenticate"),
    path("account", sessions.page, name="account"),
    path("account/sessions/end", sessions.end, name="sessions-end"),
    path("account/password", form(sessions.password_change), name="account_change_password"),
    path("account/second-factor", form(proven(second_factor.activate)), name="mfa_activate_totp"),
    path(
        "account/second-factor/off",
        form(proven(second_factor.deactivate)),
        name="mfa_deactivate_totp",
    ),
    path("account/codes", second_factor.codes, name="mfa_view_recovery_codes"),
    path(
        "account/codes/new",
        form(proven(second_factor.generate_codes)),
        name="mfa_generate_recovery_codes",
    ),
    path("members", members.index, name="members"),
    path("members/invite", members.invite, name="member-invite"),
    path("members/demand", members.demand, name="member-demand"),
    path("members/<int:member_id>/role", members.role, name="member-role"),
    path("members/<int:member_id>/remove", members.remove, name="member-remove"),
    path("members/<int:member_id>/reset", way_back.reset, name="member-reset"),
    path("invitations/<int:invitation_id>/revoke", members.revoke, name="invitation-revoke"),
    path("covers", members.cover, name="cover"),
    path("covers/<int:cover_id>/end", members.cover_end, name="cover-end"),
    path("support", support.page, name="support"),
    path("support/allow", support.allow, name="support-allow"),
    path("support/withdraw", support.withdraw, name="support-withdraw"),
    path("support/<int:session_id>/end", support.end, name="support-end"),
    path("companies/<int:company_id>/links", client_links.index, name="client-links"),
    path("client-links/<int:link_id>/revoke", client_links.revoke, name="client-link-revoke"),
    path("c/<str:token>", client_links.enter, name="client-enter"),
    path("join/<str:token>", invitation.page, name="invitation"),
    path("renew/<str:token>", way_back.renew, name="password-renew"),
    path("agency", session.switch_agency, name="agency-switch"),
    path("language", login_not_required(require_POST(set_language)), name="set_language"),
    path("audit", audit.trail, name="audit"),
    path("audit/export", audit.export_page, name="audit-export"),
    path("audit/qingka_verify.py", audit.verifier, name="audit-verifier"),
    path("healthz", session.healthz, name="healthz"),
]
