"""What Azure ML's list of sizes leaves out, by family: which GPU, its memory, the reserve for upgrades. No prices."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """GPUs of a family of sizes.

    reserves: whether a deployment needs quota beyond its instances; whole: the cores that a whole GPU comes with where
    smaller sizes have a part of one.
    """

    gpu: str = ""
    gpu_gib: float = 0.0
    reserves: bool = True
    whole: int = 0


# Microsoft's pages on VM sizes, and "Skip 20% Reservation" of its list of sizes for managed online endpoints; a family
# that is not here has no GPU or one that nobody told, and reserves.
_FAMILIES = {
    "standardncsv3family": Family("V100", 16),
    "standardndsv2family": Family("V100", 32, reserves=False),
    "standardncasv3t4family": Family("T4", 16),
    "standardnvadsa10v5family": Family("A10", 24, whole=36),
    "standardncadsa100v4family": Family("A100", 80, reserves=False),
    "standardndasv4a100family": Family("A100", 40, reserves=False),
    "standardndamsv4a100family": Family("A100", 80, reserves=False),
    "standardncadsh100v5family": Family("H100 NVL", 94, reserves=False),
    "standardndv5h100family": Family("H100", 80, reserves=False),
    "standardndsh200v5family": Family("H200", 141),
}


def find_family(name: str) -> Family:
    """Return what is known of a family, by its name in any spelling."""
    return _FAMILIES.get(letters_of(name), Family())


def letters_of(name: str) -> str:
    """Return a name's letters and digits alone, small: Azure spells one family in several ways."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
