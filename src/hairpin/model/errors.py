"""What is wrong with a manifest, in words for the person who wrote it."""

from __future__ import annotations


class ManifestError(Exception):
    """One mistake in what somebody asked for.

    ``where`` is a file with maybe a line, ``object`` a ``Ref`` as text, ``field`` the field's
    path in Kubernetes' style, ``remedy`` what to do about it.  Any of them may be empty.
    As text: one line, and a second one for the remedy.
    """

    def __init__(
        self, message: str, *, where: str = "", object: str = "", field: str = "", remedy: str = ""
    ) -> None:
        super().__init__(message, where, object, field, remedy)
        self.message = message
        self.where = where
        self.object = object
        self.field = field
        self.remedy = remedy

    @property
    def headline(self) -> str:
        """The mistake and its place, in one line, without the remedy."""
        parts = (self.where, self.object, self.field, self.message)
        return _one_line(": ".join(part for part in parts if part))

    def at(self, where: str) -> ManifestError:
        """The same mistake, its file known; a place that is known already stays."""
        return ManifestError(
            self.message,
            where=self.where or where,
            object=self.object,
            field=self.field,
            remedy=self.remedy,
        )

    def __str__(self) -> str:
        return f"{self.headline}\n  {_one_line(self.remedy)}" if self.remedy else self.headline


def _one_line(text: str) -> str:
    """Without what could break the line or speak to the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
