"""All addresses of the site; each layer brings its own."""

from django.urls import include, path

urlpatterns = [
    path("", include("clearing.urls")),
    path("", include("agency.urls")),
]
