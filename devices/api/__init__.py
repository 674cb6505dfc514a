"""The machine API's part of the device layer. This module itself is pure: both sides import it."""

#: The server also takes workers one version older and tells them to update.
API_VERSION = 1
