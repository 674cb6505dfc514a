"""The web server: ``gunicorn --config python:deploy.web --bind ADDRESS --workers N --threads M``.

Its lines are written like all others (``deploy.logs``), one per request: no Referer and no query,
and an address that holds a secret without it.
"""

from agency.logs import LINE

wsgi_app = "deploy.wsgi"
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(B)s %(M)sms'
logconfig_dict = {
    "formatters": {
        "line": {
            "()": "deploy.logs.OneLine",
            "format": LINE,
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        name: {"level": level, "handlers": ["console"], "propagate": False}
        for name, level in (("gunicorn.error", "WARNING"), ("gunicorn.access", "INFO"))
    },
}
