"""All addresses of the site; each layer brings its own."""

from django.urls import include, path

urlpatterns = [
    path("machine/v1/", include("devices.api.urls")),
    path("machine/v1/", include("clearing.api.urls")),
    path("", include("clearing.urls")),
    path("", include("agency.urls")),
]
