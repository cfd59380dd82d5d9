"""One line of the result: what was measured against what, and whether that is good enough."""

from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, TypeAlias

from bench.pairs import Pairs

Unit: TypeAlias = Literal["s", "B"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The most that the ratio, or our own median, may be."""

    of: Literal["ratio", "ours"] = "ratio"
    at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Medians of ours and of a reference, and their ratio. A figure without a reference does not exist."""

    name: str
    ours: str
    reference: str
    unit: Unit = "s"
    pairs: Pairs
    target: Target | None = None
    """None where a figure explains another one."""

    @property
    def medians(self) -> tuple[float, float]:
        return median(self.pairs.ours), median(self.pairs.reference)

    @property
    def is_met(self) -> bool:
        if self.target is None:
            return True
        measured = self.pairs.ratio if self.target.of == "ratio" else self.medians[0]
        return measured <= self.target.at_most

    def as_json(self) -> dict[str, Any]:
        ours, reference = self.medians
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": {"what": self.ours, "median": ours},
            "reference": {"what": self.reference, "median": reference},
            "pairs": len(self.pairs.ours),
            "ratio": self.pairs.ratio,
            "quartiles": list(self.pairs.quartiles),
            "target": {"of": self.target.of, "at_most": self.target.at_most} if self.target else None,
            "met": self.is_met if self.target else None,
        }

    def as_cells(self) -> list[str]:
        """The same for a table, whose columns `COLUMNS` names."""
        ours, reference = (shown(value, self.unit) for value in self.medians)
        low, high = self.pairs.quartiles
        return [
            self.name,
            f"{self.ours} ÷ {self.reference}",
            ours,
            reference,
            str(len(self.pairs.ours)),
            f"{self.pairs.ratio:.2f} [{low:.2f} {high:.2f}]",
            *self._verdict(),
        ]

    def _verdict(self) -> tuple[str, str]:
        if self.target is None:
            return "", ""
        most = self.target.at_most
        bound = f"{most:g}" if self.target.of == "ratio" else shown(most, self.unit)
        return f"≤ {bound}", "met" if self.is_met else "MISSED"


COLUMNS = ["row", "what", "ours", "reference", "pairs", "ratio [quartiles]", "target", ""]


def shown(value: float, unit: Unit) -> str:
    if unit == "B":
        return f"{value / (1 << 20):.1f} MiB"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.2f} ms"
