"""Settings of the server, all from the environment; anything missing or odd stops the start.

``deploy/env.sample`` lists every variable read here, and a test holds the two together.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from agency import places
from agency.logs import LINE
from agency.sealing import KeyRing, SealError, keys_text
from agency.signing import SigningKey, SigningKeyError, key_id

BASE_DIR = Path(__file__).resolve().parent.parent
#: Hosts that no network lies before.
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def env(name: str, default: str | None = None) -> str:
    """The variable's text; without a default it must be there and not be empty."""
    value = os.environ.get(name, default)
    if value is None or (default is None and not value.strip()):
        raise ImproperlyConfigured(f"环境变量 {name} 未设置 (see deploy/env.sample)")
    return value


def env_bool(name: str, default: str) -> bool:
    value = env(name, default).lower()
    if value not in {"0", "1"}:
        raise ImproperlyConfigured(f"环境变量 {name} 应为 0 或 1, 现为 {value!r}")
    return value == "1"


def env_float(name: str, default: str) -> float:
    value = env(name, default)
    try:
        return float(value)
    except ValueError:
        raise ImproperlyConfigured(f"环境变量 {name} 应为数字, 现为 {value!r}") from None


def env_networks(name: str, default: str) -> list[IPv4Network | IPv6Network]:
    """Addresses and ranges of addresses, parted by commas."""
    value = env(name, default)
    try:
        return [ip_network(part.strip()) for part in value.split(",") if part.strip()]
    except ValueError:
        raise ImproperlyConfigured(
            f"环境变量 {name} 应为 IP 地址或网段 (10.0.0.0/24), 逗号分隔, 现为 {value!r}"
        ) from None


#: A database that is away is noticed: when connecting, and in the middle of a question. How long a
#: question may take is the role's own limit (``roles.sql``).
CONNECTION_LIMITS = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def database(name: str) -> dict[str, Any]:
    """A database from a libpq address (URL or key=value form), sockets included."""
    try:
        parts = dict(conninfo_to_dict(env(name)))
    except ProgrammingError as error:
        raise ImproperlyConfigured(f"环境变量 {name} 不是 PostgreSQL 地址: {error}") from None
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname", ""),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # Server-side cursors and session settings do not survive PgBouncer in transaction mode.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {**CONNECTION_LIMITS, **parts},
    }


# production: nothing simulated outside a practice agency. practice: demo, training, tests.
MODE = env("QINGKA_MODE", "production")
if MODE not in {"production", "practice"}:
    raise ImproperlyConfigured(f"QINGKA_MODE 应为 production 或 practice, 现为 {MODE!r}")
PRACTICE = MODE == "practice"

SECRET_KEY = env("QINGKA_SECRET_KEY")
if not PRACTICE and len(SECRET_KEY) < 50:
    raise ImproperlyConfigured("QINGKA_SECRET_KEY 太短: 正式环境至少 50 个字符")
if not PRACTICE and (len(set(SECRET_KEY)) < 12 or SECRET_KEY.startswith("django-insecure-")):
    raise ImproperlyConfigured("QINGKA_SECRET_KEY 不是随机生成的: 正式环境拒绝使用")
# Named here, read by agency.sealing: the ring itself, or a file that holds it.
env("QINGKA_SEAL_KEYS", "")
env("QINGKA_SEAL_KEYS_FILE", "")
try:
    _weak = KeyRing.parse(keys_text()).weak()
except SealError as error:
    raise ImproperlyConfigured(f"QINGKA_SEAL_KEYS: {error} (see deploy/env.sample)") from None
if _weak and not PRACTICE:
    raise ImproperlyConfigured(
        f"QINGKA_SEAL_KEYS: 密钥 {_weak[0]!r} 不是随机生成的, 正式环境拒绝使用"
    )

# Signs the daily heads of the audit trail, the public halves of the keys that did so before, and
# where the heads go; outside the database, all of them.
AUDIT_KEY = env("QINGKA_AUDIT_KEY", "")
AUDIT_FORMER_KEYS = [key.strip() for key in env("QINGKA_AUDIT_FORMER_KEYS", "").split(",") if key]
AUDIT_PLACES = env("QINGKA_AUDIT_PLACES", "")
try:
    if AUDIT_KEY:
        SigningKey.parse(AUDIT_KEY)
    elif not PRACTICE:
        raise SigningKeyError("未设置")
except SigningKeyError as error:
    raise ImproperlyConfigured(f"QINGKA_AUDIT_KEY: {error}") from None
try:
    for _public in AUDIT_FORMER_KEYS:
        key_id(_public)
except SigningKeyError as error:
    raise ImproperlyConfigured(f"QINGKA_AUDIT_FORMER_KEYS: {error}") from None
if not AUDIT_PLACES and not PRACTICE:
    raise ImproperlyConfigured("QINGKA_AUDIT_PLACES: 未设置, 每日签名无处可送")
try:
    places.parse(AUDIT_PLACES)
except ValueError as error:
    raise ImproperlyConfigured(f"QINGKA_AUDIT_PLACES: {error}") from None

# Mail leaves by this server; smtps:// from the start, smtp:// with STARTTLS.
EMAIL_URL = urlsplit(env("QINGKA_EMAIL_URL", ""))
if EMAIL_URL.scheme not in {"", "smtp", "smtps"} or (EMAIL_URL.scheme and not EMAIL_URL.hostname):
    raise ImproperlyConfigured("QINGKA_EMAIL_URL 应为 smtp:// 或 smtps:// 地址")
if "mailto:" in AUDIT_PLACES and not EMAIL_URL.scheme:
    raise ImproperlyConfigured("QINGKA_AUDIT_PLACES 要发邮件, 但 QINGKA_EMAIL_URL 未设置")
EMAIL_HOST = EMAIL_URL.hostname or "localhost"
EMAIL_PORT = EMAIL_URL.port or (465 if EMAIL_URL.scheme == "smtps" else 587)
EMAIL_HOST_USER = unquote(EMAIL_URL.username or "")
EMAIL_HOST_PASSWORD = unquote(EMAIL_URL.password or "")
EMAIL_USE_SSL = EMAIL_URL.scheme == "smtps"
EMAIL_USE_TLS = EMAIL_URL.scheme == "smtp"
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env("QINGKA_EMAIL_FROM", "qingka@localhost")

# Seconds added to the wall clock wherever the *domain* asks for the time (periods, windows, quiet
# hours), so that a demo plays on a good day of the month. Leases always use the database's clock.
CLOCK_OFFSET = env_float("QINGKA_CLOCK_OFFSET", "0")
if CLOCK_OFFSET and not PRACTICE:
    raise ImproperlyConfigured("QINGKA_CLOCK_OFFSET 只能用于练习环境 (QINGKA_MODE=practice)")
# One factor on every limit and lease that travels with an order: 1 in production, small in tests.
LIMITS_SCALE = env_float("QINGKA_LIMITS_SCALE", "1")
if not 0.01 <= LIMITS_SCALE <= 1 or (LIMITS_SCALE != 1 and not PRACTICE):
    raise ImproperlyConfigured("QINGKA_LIMITS_SCALE 应在 0.01 与 1 之间, 正式环境只能为 1")

DEBUG = False
ALLOWED_HOSTS = env("QINGKA_ALLOWED_HOSTS").split(",")
CSRF_TRUSTED_ORIGINS = [o for o in env("QINGKA_TRUSTED_ORIGINS", "").split(",") if o]

# Whose X-Forwarded-For is believed (agency.throttle), besides a socket's.
PROXIES = env_networks("QINGKA_PROXIES", "127.0.0.0/8,::1")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_htmx",
    "rest_framework",
    "agency",  # before allauth: its templates are ours
    "django.contrib.admin.apps.SimpleAdminConfig",  # after agency, for the same reason
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "devices",
    "clearing",
]
MIDDLEWARE = [
    "agency.edge.EdgeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "agency.sessions.SignedSessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "agency.pages.sessions.LastSeenMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "agency.operator.visiting.LooksMiddleware",
    # The last one: it runs the view inside the agency's scope.
    "agency.middleware.AgencyScopeMiddleware",
]
ROOT_URLCONF = "deploy.urls"
WSGI_APPLICATION = "deploy.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "django.template.context_processors.i18n",
                "agency.pages.context.site",
            ],
        },
    },
]

DATABASES = {"default": database("QINGKA_DATABASE_URL")}
if os.environ.get("QINGKA_OWNER_DATABASE_URL"):
    # Only where migrations run: manage.py migrate --database owner
    DATABASES["owner"] = database("QINGKA_OWNER_DATABASE_URL")
AUTH_USER_MODEL = "agency.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env("QINGKA_REDIS_URL")
# The broker's address as reader machines see it, where that is another one.
MACHINE_BROKER_URL = env("QINGKA_MACHINE_BROKER_URL", "")
# Either way passwords go to it: the server's own, and those of the machines' accounts.
for _name, _url in (("REDIS_URL", REDIS_URL), ("MACHINE_BROKER_URL", MACHINE_BROKER_URL)):
    _broker = urlsplit(_url)
    _safe = _broker.scheme in {"rediss", "unix"} or _broker.hostname in LOOPBACK
    if _url and not _safe and not PRACTICE:
        raise ImproperlyConfigured(
            f"QINGKA_{_name}: 口令不能明文过网, 正式环境应为 rediss:// 或 unix:// 或本机地址"
        )
SERVER_KEY_PREFIX = env("QINGKA_KEY_PREFIX", "qingka:")

# Sealed backups and exports. Files here are useless without the seal keys.
STORAGE_DIR = Path(env("QINGKA_STORAGE_DIR"))
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": STORAGE_DIR, "file_permissions_mode": 0o600},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True

LANGUAGE_CODE = "zh-hans"
LANGUAGES = [("zh-hans", _("简体中文")), ("en", _("英文"))]
LOCALE_PATHS = [BASE_DIR / "deploy" / "locale"]
TIME_ZONE = "Asia/Shanghai"
USE_TZ = True

LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "account_login"
# Signing in and the second factor: django-allauth behind our own pages, addresses and limits
# (agency.throttle counts in Redis for all processes; allauth's own counting is switched off).
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
ACCOUNT_ADAPTER = "agency.accounts.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_RATE_LIMITS = False
ACCOUNT_FORMS = {
    "login": "agency.pages.account_forms.LoginForm",
    "reauthenticate": "agency.pages.account_forms.OwnPasswordAgainForm",
    "change_password": "agency.pages.account_forms.PasswordChangeForm",
}
PASSWORD_RESET_TIMEOUT = 24 * 60 * 60
MFA_ADAPTER = "agency.accounts.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "清卡台"
MFA_TOTP_TOLERANCE = 1
MFA_FORMS = {
    "authenticate": "agency.pages.account_forms.CodeForm",
    "reauthenticate": "agency.pages.account_forms.CodeAgainForm",
    "activate_totp": "agency.pages.account_forms.ActivateForm",
}
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "agency.passwords.NotTheLogin"},
    {
        "NAME": "agency.passwords.LongEnough",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "agency.passwords.NotCommon"},
    {"NAME": "agency.passwords.WordsOfThisSite"},
]

# Behind TLS everywhere but on the practice machine's own loopback.
SECURE_COOKIES = not PRACTICE
SESSION_COOKIE_SECURE = SECURE_COOKIES
CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SECURE = SECURE_COOKIES
LANGUAGE_COOKIE_SAMESITE = "Lax"
# A browser takes a name with this beginning from this host over TLS only.
_HOST = "__Host-" if SECURE_COOKIES else ""
SESSION_COOKIE_NAME = f"{_HOST}sessionid"
CSRF_COOKIE_NAME = f"{_HOST}csrftoken"
LANGUAGE_COOKIE_NAME = f"{_HOST}language"
# Seconds without a request; agency.pages.sessions ends a session that has lasted a working day.
SESSION_COOKIE_AGE = 4 * 3600
# Messages name clients: never in a cookie.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
# Signed in the cookie, sealed in the database.
SESSION_ENGINE = "agency.sessions"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_HSTS_SECONDS = 0 if PRACTICE else 31_536_000
SECURE_SSL_REDIRECT = not PRACTICE
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
# Handing the whole domain to the browsers' own lists is for its owner to decide.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
# Never more than the site's name, not even to the site itself: addresses of clients' links and of
# invitations hold a secret. ("no-referrer" would take the origin from forms, and CSRF needs that.)
SECURE_REFERRER_POLICY = "strict-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Everything comes from this site, nothing from within a page; the second factor's QR code is an
# image of its own page (data:).
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "connect-src": [SELF],
        "img-src": [SELF, "data:"],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "object-src": [NONE],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["agency.api.authentication.MachineAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "UNAUTHENTICATED_USER": None,
    # OPTIONS tells nobody what a call looks like.
    "DEFAULT_METADATA_CLASS": None,
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "deploy.logs.OneLine",
            "format": LINE,
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env("QINGKA_LOG_LEVEL", "INFO")},
    # Two lines for each periodic job, every two seconds, tell nobody anything.
    "loggers": {"celery": {"level": "WARNING"}},
}
