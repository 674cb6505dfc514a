"""The settings fail loudly: a fresh process with one variable missing or odd does not start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agency.sealing import KeyRing

GOOD = {
    "QINGKA_MODE": "production",
    "QINGKA_SECRET_KEY": "3mV9qTz7-aWc2Lk8RfB4yJd6NhX1pGs5uEo0_ViQxMbCtKwZ"  # made up for this test
    + "HnY",
    "QINGKA_SEAL_KEYS": KeyRing.generate("k"),
    "QINGKA_AUDIT_KEY": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=",
    "QINGKA_AUDIT_PLACES": "file:/nowhere",
    "QINGKA_DATABASE_URL": "postgresql://qingka_app@db/qingka",
    "QINGKA_REDIS_URL": "rediss://broker/0",
    "QINGKA_MACHINE_BROKER_URL": "rediss://broker.example:6380/0",
    "QINGKA_ALLOWED_HOSTS": "qingka.example",
    "QINGKA_STORAGE_DIR": "/nowhere",
}


def start(**changes: str | None) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QINGKA")}
    given = {**kept, **{n: v for n, v in {**GOOD, **changes}.items() if v is not None}}
    return subprocess.run(
        [sys.executable, "-c", "import deploy.settings"],
        env=given,
        capture_output=True,
        text=True,
        check=False,
    )


def test_complete_settings_are_taken() -> None:
    assert start().returncode == 0, start().stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QINGKA_SECRET_KEY", "x" * 60),
        ("QINGKA_SECRET_KEY", "django-insecure-" + GOOD["QINGKA_SECRET_KEY"]),
        ("QINGKA_SEAL_KEYS", "test:" + "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="),
    ],
)
def test_a_key_of_a_sample_or_of_the_tests_does_not_start_a_production_server(
    name: str, value: str
) -> None:
    failed = start(**{name: value})
    assert failed.returncode != 0
    assert name in failed.stderr
    assert value not in failed.stderr


def test_in_production_every_cookie_belongs_to_this_host_and_no_script_reads_one() -> None:
    names = ("SESSION", "CSRF", "LANGUAGE")
    asked = "; ".join(
        f"print(s.{name}_COOKIE_NAME[:7], s.{name}_COOKIE_SECURE, s.{name}_COOKIE_HTTPONLY)"
        for name in names
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QINGKA")}
    said = subprocess.run(
        [sys.executable, "-c", f"import deploy.settings as s; {asked}"],
        env={**kept, **GOOD},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.splitlines() == ["__Host- True True"] * 3


@pytest.mark.parametrize("name", sorted(set(GOOD) - {"QINGKA_MODE", "QINGKA_MACHINE_BROKER_URL"}))
def test_a_missing_variable_is_named(name: str) -> None:
    failed = start(**{name: None})
    assert failed.returncode != 0
    assert name in failed.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QINGKA_MODE", "demo"),
        ("QINGKA_SECRET_KEY", "short"),
        ("QINGKA_SEAL_KEYS", "k:AAAA"),
        ("QINGKA_AUDIT_KEY", "AAAA"),
        ("QINGKA_AUDIT_KEY", "file:/nowhere"),
        ("QINGKA_AUDIT_PLACES", "nowhere"),
        ("QINGKA_AUDIT_PLACES", "mailto:a@b.cn"),
        ("QINGKA_EMAIL_URL", "pop3://host"),
        ("QINGKA_AUDIT_FORMER_KEYS", "AAAA"),
        ("QINGKA_MACHINE_BROKER_URL", "redis://broker.example/0"),
        ("QINGKA_REDIS_URL", "redis://broker/0"),
        ("QINGKA_DATABASE_URL", "mysql://db/qingka"),
        ("QINGKA_CLOCK_OFFSET", "3600"),
        ("QINGKA_CLOCK_OFFSET", "soon"),
        ("QINGKA_LIMITS_SCALE", "0.2"),
        ("QINGKA_LIMITS_SCALE", "0"),
    ],
)
def test_an_odd_value_is_refused_by_name(name: str, value: str) -> None:
    failed = start(**{name: value})
    assert failed.returncode != 0
    assert name in failed.stderr


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/0", "unix:///run/redis/redis.sock"])
def test_a_broker_on_this_machine_needs_no_tls(url: str) -> None:
    assert start(QINGKA_REDIS_URL=url, QINGKA_MACHINE_BROKER_URL=None).returncode == 0


@pytest.mark.parametrize("machines", ["", "rediss://broker.example:6380/0"])
def test_the_servers_own_plain_address_is_refused_whatever_machines_are_told(machines: str) -> None:
    """The passwords of the machines' accounts go to the broker by it."""
    failed = start(QINGKA_REDIS_URL="redis://broker/0", QINGKA_MACHINE_BROKER_URL=machines)
    assert failed.returncode != 0
    assert "QINGKA_REDIS_URL" in failed.stderr


def test_django_s_own_check_for_production_finds_nothing() -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QINGKA")}
    checked = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        env={**kept, **GOOD},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
