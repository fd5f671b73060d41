"""Reasons: why a lead has its score."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Strict

Locale = Literal["en", "de", "nl", "sv"]


class ReasonsConfig(Strict):
    """In which language reasons are told (English, German, Dutch, Swedish), and how many for and against."""

    locale: Locale = "en"
    top: Annotated[int, Field(ge=1, le=20)] = 3
