from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DevicesAppConfig(AppConfig):
    name = "devices"
    verbose_name = _("税盘与读盘机")
