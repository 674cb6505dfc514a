from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AgencyAppConfig(AppConfig):
    name = "agency"
    verbose_name = _("代账机构")
