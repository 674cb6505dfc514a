from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ClearingAppConfig(AppConfig):
    name = "clearing"
    verbose_name = _("抄报清卡")
