"""All addresses of the site; each layer brings its own."""

from django.urls import include, path

from agency.admin import VIEWS as OF_AGENCY
from agency.operator.site import site as operator_site
from clearing.admin import VIEWS as OF_CLEARING
from devices.admin import VIEWS as OF_DEVICES

for views in (OF_AGENCY, OF_DEVICES, OF_CLEARING):
    operator_site.register_views(views)

urlpatterns = [
    path("machine/v1/", include("devices.api.urls")),
    path("machine/v1/", include("clearing.api.urls")),
    path("operator/", operator_site.urls),
    path("", include("clearing.urls")),
    path("", include("agency.urls")),
]
