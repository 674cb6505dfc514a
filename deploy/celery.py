"""The server's own Celery: periodic jobs. Device work goes to the machines' queues instead."""

from __future__ import annotations

import os

import django
from celery import Celery
from celery.schedules import crontab
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy.settings")
django.setup()  # the bell, which is asked below, stands beside the models

from django.conf import settings  # noqa: E402

from clearing.bell import transport_url  # noqa: E402
from clearing.broker_tls import tls_options  # noqa: E402

app = Celery("qingka")
app.conf.update(
    broker_url=transport_url(settings.REDIS_URL),
    broker_use_ssl=tls_options(settings.REDIS_URL),
    # A broker that is away is noticed; a message is waited for a second at a time.
    broker_transport_options={
        "global_keyprefix": settings.SERVER_KEY_PREFIX,
        "socket_connect_timeout": 5,
        "socket_timeout": 30,
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    task_ignore_result=True,
    # Of a task that has none of its own; a pool of threads cannot end one, there the limits of its
    # database statements (roles.sql), mails and broker calls do.
    task_soft_time_limit=120,
    task_time_limit=180,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    timezone=settings.TIME_ZONE,
    beat_schedule={
        "sweep": {"task": "clearing.sweep", "schedule": 2.0, "options": {"expires": 10}},
        # Every hour, so that what could not be handed over is tried again.
        "sign-heads": {
            "task": "agency.sign_heads",
            "schedule": crontab(minute=7),
            "options": {"expires": 3000},
        },
        "settle-refusals": {
            "task": "agency.settle_refusals",
            "schedule": 60.0,
            "options": {"expires": 50},
        },
        "keep-backups": {"task": "clearing.keep_backups", "schedule": crontab(hour=2, minute=40)},
        "drop-old-accounts": {
            "task": "devices.drop_old_accounts",
            "schedule": 20.0,
            "options": {"expires": 20},
        },
    },
)
app.autodiscover_tasks(["agency", "devices", "clearing"])


@setup_logging.connect
def keep_the_settings_logging(**_: object) -> None:
    """Somebody listens here, so Celery sets up no logging of its own: the settings' stands."""
