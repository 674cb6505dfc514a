"""TLS to the broker, with the certificate and its name checked: kombu alone checks neither."""

from __future__ import annotations

import ssl
from typing import Any


def tls_options(url: str) -> dict[str, Any] | bool:
    """What kombu must be told for this address; False where it is not TLS."""
    if not url.startswith("rediss:"):
        return False
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
