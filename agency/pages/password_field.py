"""The field in which a password is typed."""

from __future__ import annotations

from django import forms


def hidden(autocomplete: str) -> forms.PasswordInput:
    """What was typed never comes back to the page."""
    return forms.PasswordInput({"autocomplete": autocomplete}, render_value=False)
