"""Reasons: why a lead has its score."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Strict

Locale = Literal["en", "de", "nl", "sv"]
Word = Annotated[str, Field(min_length=1)]
Names = dict[str, Word | tuple[Word, Word]]
Share = Literal["all", "none"] | Annotated[float, Field(gt=0, le=1)]


class ReasonsConfig(Strict):
    """In which language reasons are told (English, German, Dutch, Swedish), how many for and against, and for whom.

    ``names`` gives your own words (kinds, attributes, values) in a language, as singular and plural or as one
    form: ``{de: {roundtable: [Gesprächsrunde, Gesprächsrunden]}}``. A word without an entry stays as it is, but for
    common kinds and attributes (call, download, source ...), which have built-in words.
    ``leads`` says whose scores are explained: ``all``, ``none``, or the share with the highest probability.
    """

    locale: Locale = "en"
    top: Annotated[int, Field(ge=1, le=20)] = 3
    names: dict[Locale, Names] = Field(default_factory=dict)
    leads: Share = "all"

    @property
    def unnamed(self) -> str | None:
        """What to tell where reasons are told in another language and no word of the user's is named in it.

        >>> ReasonsConfig().unnamed, ReasonsConfig(locale="de", names={"de": {"fair": "Messe"}}).unnamed
        (None, None)
        """
        if self.locale == "en" or self.leads == "none" or self.names.get(self.locale):
            return None
        return (
            f"Reasons are told in '{self.locale}' and reasons.names.{self.locale} is empty: kinds, attributes and "
            "values stay as the data spells them, but for a few common ones. Name yours there."
        )
