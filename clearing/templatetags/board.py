"""Tags of the board's templates: links that keep the other filters, colours, a failure's title."""

from __future__ import annotations

from urllib.parse import urlencode

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from clearing.selectors.board import Query
from clearing.selectors.standing import COLOURS, Standing
from clearing.selectors.words import entry_for
from clearing.states import COLOURS as RUN_COLOURS
from clearing.states import RunState

register = template.Library()


@register.simple_tag
def board_query(query: Query, **changed: str) -> str:
    """``?state=…&q=…`` with some values changed; empty when nothing is asked."""
    parameters = query.parameters(**changed)
    return f"?{urlencode(parameters)}" if parameters else ""


@register.simple_tag
def sort_heading(query: Query, key: str, label: str) -> SafeString:
    """A heading that sorts by its column, and the other way round the next time."""
    here = query.sort.removeprefix("-") == key
    falling = query.sort.startswith("-")
    wanted = f"-{key}" if here and not falling else key
    order = ("descending" if falling else "ascending") if here else "none"
    return format_html(
        '<th scope="col" aria-sort="{}"><a id="sort-{}" href="/{}">{}{}</a></th>',
        order,
        key,
        board_query(query, sort=wanted),
        label,
        {"ascending": " ↑", "descending": " ↓", "none": ""}[order],
    )


@register.simple_tag
def standing_colour(standing: Standing) -> str:
    return COLOURS[standing]


@register.simple_tag
def run_colour(state: str) -> str:
    return RUN_COLOURS[RunState(state)]


@register.simple_tag
def failure_title(code: str) -> str:
    """The title of a catalogue code; the code itself when it is none of ours."""
    entry = entry_for(code)
    return _(entry.title) if entry else code
