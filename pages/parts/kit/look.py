"""The colours of charts, light and dark. A figure is made light; the browser puts the dark ones in their place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """The colours of one theme."""

    series: tuple[str, ...]
    text: str
    quiet: str
    line: str
    ground: str
    bad: str

    @property
    def colours(self) -> list[str]:
        """All of them, in the same order for each theme."""
        return [*self.series, self.text, self.quiet, self.line, self.ground, self.bad]


LIGHT = Look(
    ("#0072B2", "#C44E00", "#007A5E", "#A6548A", "#8A6D00", "#57606A"),
    text="#0B0F14",
    quiet="#57606A",
    line="#D5D9DF",
    ground="#FFFFFF",
    bad="#B3202C",
)
DARK = Look(
    ("#56B4E9", "#F0A35E", "#3CC9A0", "#E3A0C8", "#E8C547", "#A4ACB6"),
    text="#F3F5F7",
    quiet="#A4ACB6",
    line="#3A414B",
    ground="#0E1116",
    bad="#FF9AA2",
)
