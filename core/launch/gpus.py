"""What a model asks of the GPUs of a size, and how fast they can be: by parameters and class of GPU. Asks nobody.

Stated, not measured on Azure: speeds of the makers' data sheets, of which a training step reaches a part.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.catalog.base_models import BaseModel
from core.catalog.compute import Size
from core.catalog.families import Family, find_family
from core.recipe import Recipe

# Dense tensor operations a second, in 16 and in 32 bits (TF32 where a card has it), 1e12.
_SPEEDS = {
    "T4": (65.0, 8.1),
    "V100": (125.0, 15.7),
    "A10": (125.0, 62.5),
    "A100": (312.0, 156.0),
    "H100 NVL": (835.0, 418.0),
    "H100": (989.0, 494.0),
    "H200": (989.0, 494.0),
}
# Of that a training step reaches so much: the low end with short rows in small batches.
USUAL_SHARE = (0.06, 0.25)
_SHARED_OUT = (0.5, 0.95)  # what is left of it where several GPUs have to agree
_PASSES = {True: 4, False: 6}  # operations for each parameter and token: LoRA needs no gradients of the weights


@dataclass(frozen=True)
class Power:
    """A model of so many parameters on the GPUs of one or several nodes. gpus: of one node."""

    parameters: int
    source: str
    """What says how many parameters it has: "stated", "by its name"."""
    family: Family
    gpus: int
    nodes: int = 1

    @property
    def cards(self) -> int:
        """All GPUs that train."""
        return self.gpus * self.nodes

    @property
    def cards_words(self) -> str:
        """Return "2 × A100 80 GiB"."""
        return f"{self.cards} × {self.family.gpu} {self.family.gpu_gib:g} GiB"

    @property
    def words(self) -> str:
        """Return "14 B parameters (by its name) on 2 × A100 80 GiB"."""
        return f"{self.parameters / 1e9:.2g} B parameters ({self.source}) on {self.cards_words}"

    def find_peak(self, recipe: Recipe) -> float:
        """Return tokens per second at the whole speed of the GPUs, which no training reaches."""
        speed = _SPEEDS[self.family.gpu][str(recipe.counted["precision"]) != "16"]
        return speed * 1e12 * self.cards / (_PASSES[recipe.lora] * self.parameters)

    def find_usual(self, recipe: Recipe) -> tuple[float, float]:
        """Return the tokens per second to reckon with where nothing was measured, the lowest and the highest."""
        peak = self.find_peak(recipe)
        low, high = (share * peak for share in USUAL_SHARE)
        return (low, high) if self.cards == 1 else (low * _SHARED_OUT[0], high * _SHARED_OUT[1])


def find_power(model: BaseModel, size: Size | None, nodes: int) -> Power | None:
    """Return what trains a model; None where its parameters or the GPUs are not known."""
    family = find_family(size.family) if size else Family()
    if size is None or not size.gpus or not model.card.parameters or family.gpu not in _SPEEDS:
        return None
    return Power(model.card.parameters, model.card.parameters_source, family, size.gpus, nodes)
