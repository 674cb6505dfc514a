"""The server's settings for tests and for the type checker.

Sets what is missing in the environment and then reads ``deploy.settings`` like any other process.
The database and the broker are started by ``tests/conftest.py``, which puts their addresses here.
"""

import os
import tempfile

_DEFAULTS = {
    "QINGKA_MODE": "practice",
    "QINGKA_SECRET_KEY": "only-for-tests",
    "QINGKA_SEAL_KEYS": "test:" + "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=",
    "QINGKA_DATABASE_URL": "postgresql://qingka_app@/qingka?host=/nowhere",
    "QINGKA_OWNER_DATABASE_URL": "postgresql://qingka_owner@/qingka?host=/nowhere",
    "QINGKA_REDIS_URL": "unix:///nowhere",
    "QINGKA_ALLOWED_HOSTS": "testserver,localhost,127.0.0.1",
    "QINGKA_STORAGE_DIR": os.path.join(tempfile.gettempdir(), "qingka-tests"),
}
for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)

from deploy.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
