"""Which columns and files are sealed: declared where they stand, found by introspection.

A :class:`SealedField` names the property of its model that tells the context; a
:class:`SealedFileField` is the storage name of a sealed file. Nothing else may hold what ``seal``
gave (``tests/completeness/test_sealed.py``), so that no rotation of keys can forget one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import models

if TYPE_CHECKING:
    _Binary = models.BinaryField[Any, Any]
    _Chars = models.CharField[Any, Any]
else:
    _Binary, _Chars = models.BinaryField, models.CharField


class SealedField(_Binary):
    """Sealed bytes; ``context``: the model's attribute that says whose they are."""

    def __init__(self, *args: Any, context: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context = context

    def deconstruct(self) -> tuple[str, str, Any, dict[str, Any]]:
        """The same column: sealing is no matter of the database."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.BinaryField", args, kwargs


class SealedFileField(_Chars):
    """The storage name of a sealed file, empty once it is gone."""

    def __init__(self, *args: Any, context: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context = context

    def deconstruct(self) -> tuple[str, str, Any, dict[str, Any]]:
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.CharField", args, kwargs


@dataclass(frozen=True, slots=True)
class Place:
    """A sealed column, or a column of names of sealed files."""

    model: type[models.Model]
    field: SealedField | SealedFileField

    @property
    def in_file(self) -> bool:
        return isinstance(self.field, SealedFileField)

    def context(self, row: models.Model) -> str:
        return str(getattr(row, self.field.context))

    def __str__(self) -> str:
        return f"{self.model._meta.label}.{self.field.name}"


def places() -> Iterator[Place]:
    """Every place of every installed model."""
    for model in apps.get_models():
        for field in model._meta.local_fields:
            if isinstance(field, SealedField | SealedFileField):
                yield Place(model, field)
