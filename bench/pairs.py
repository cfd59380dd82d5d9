"""Measures two things side by side, so that what else the machine does meanwhile hits both."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles

Measure = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Pairs:
    """What was measured: ours and the reference, the two of a pair one right after the other."""

    ours: list[float]
    reference: list[float]

    @property
    def ratios(self) -> list[float]:
        return [ours / reference for ours, reference in zip(self.ours, self.reference, strict=True)]

    @property
    def ratio(self) -> float:
        """The median over the pairs, which a drift of the machine moves less than the ratio of two medians."""
        return median(self.ratios)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.ratios) < 2:
            return self.ratio, self.ratio
        low, _, high = quantiles(self.ratios, n=4, method="inclusive")
        return low, high


def interleaved(ours: Measure, reference: Measure, count: int) -> Pairs:
    """Measure both `count` times; who goes first alternates."""
    found = Pairs([], [])
    for index in range(count):
        turns = [(ours, found.ours), (reference, found.reference)]
        for measure, values in turns if index % 2 == 0 else reversed(turns):
            values.append(measure())
    return found
