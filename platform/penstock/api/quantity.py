"""Quantities, money and ratios as Kubernetes takes them: strings or integers, exact, never floats."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import total_ordering
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_BINARY = {suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)}
_DECIMAL = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
}
SUFFIXES = _BINARY | _DECIMAL

# One power of ten bounds what an exponent may ask for, so that "1e999999999" costs nothing to refuse.
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_EXPONENT = r"[eE][+-]?[0-9]{1,2}"
QUANTITY_PATTERN = rf"^\+?{_NUMBER}(?:[KMGTPE]i|[numkMGTPE]|{_EXPONENT})?$"
DECIMAL_PATTERN = rf"^{_NUMBER}$"
_QUANTITY = re.compile(rf"\+?(?P<number>{_NUMBER})(?P<suffix>[KMGTPE]i|[numkMGTPE]|{_EXPONENT})?")
_PLAIN_DECIMAL = re.compile(_NUMBER)
_LONGEST = 64


@total_ordering
class Quantity:
    """A Kubernetes quantity, not negative: `80Gi`, `3350G`, `989T`, `1e3`, `500m`.

    The text is kept as written, so that a resource reads back as its author wrote it; two quantities are equal when
    their values are.
    """

    __slots__ = ("text", "value")

    def __init__(self, text: str) -> None:
        """Parse a quantity.

        Raises:
            ValueError: the text is not a quantity; the message says what one looks like.
        """
        match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
        if match is None:
            raise ValueError(_remedy(text))
        suffix = match["suffix"] or ""
        factor = SUFFIXES[suffix] if suffix in SUFFIXES else Decimal(f"1{suffix}")
        self.text = text
        self.value: Decimal = Decimal(match["number"]) * factor

    def __int__(self) -> int:
        return int(self.value)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Quantity({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, Quantity) else NotImplemented

    def __lt__(self, other: Quantity) -> bool:
        return self.value < other.value

    def __hash__(self) -> int:
        return hash(self.value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return _int_or_string(QUANTITY_PATTERN)

    @classmethod
    def _validate(cls, given: object) -> Self:
        if isinstance(given, cls):
            return given
        text = _text(given, example='"80Gi"')
        try:
            return cls(text)
        except ValueError as error:
            raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None


def _remedy(text: str) -> str:
    """Say what is wrong with the text of a quantity, and what to write instead."""
    if text.startswith("-"):
        return f"{text!r} is negative: give a quantity of zero or more"
    for wrong, right in (("iB", "i"), ("KB", "k"), ("kB", "k"), ("B", ""), ("K", "k")):
        candidate = text.removesuffix(wrong).rstrip() + right
        if text.endswith(wrong) and _QUANTITY.fullmatch(candidate):
            return f"{text!r} is not a quantity: write {candidate!r} (suffixes are k M G T P E and Ki Mi Gi Ti Pi Ei)"
    return f"{text!r} is not a quantity: write a number with a suffix such as 80Gi (binary), 3350G (decimal) or 1e9"


def _text(given: object, *, example: str) -> str:
    """Return a quantity given as a string or an integer as text; refuse anything else."""
    if isinstance(given, bool) or not isinstance(given, int | str | float | Decimal):
        raise PydanticCustomError(
            "quantity",
            "{given} is not a quantity: write a quoted string such as {example}",
            {"given": repr(given), "example": example},
        )
    if isinstance(given, float):
        raise PydanticCustomError(
            "float", 'an unquoted decimal loses digits on its way: write "{given}" in quotes', {"given": str(given)}
        )
    return format(given, "f") if isinstance(given, Decimal) else str(given)


def _decimal(given: object) -> Decimal:
    """Validate a plain decimal of zero or more, given as a string or an integer."""
    text = _text(given, example='"2.99"')
    if len(text) > _LONGEST or _PLAIN_DECIMAL.fullmatch(text) is None:
        raise PydanticCustomError(
            "decimal",
            '{given} is not a decimal of zero or more: write one in quotes, such as "2.99"',
            {"given": repr(text)},
        )
    return Decimal(text)


def _int_or_string(pattern: str) -> dict[str, Any]:
    return {
        "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": pattern}],
        "x-kubernetes-int-or-string": True,
    }


_exact_decimal = (
    BeforeValidator(_decimal),
    PlainSerializer(lambda value: format(value, "f"), return_type=str),
    WithJsonSchema(_int_or_string(DECIMAL_PATTERN)),
)

Money = Annotated[Decimal, *_exact_decimal]
"""An amount of a currency that stands beside it (US dollars where none does), as a quoted decimal."""

Ratio = Annotated[Decimal, *_exact_decimal]
"""A ratio, as a quoted decimal: "0.85" is 85 percent."""
