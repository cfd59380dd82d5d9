"""What a run is told as, after its samples: how the calls ended, and what became of the promises."""

from collections.abc import Mapping, Sequence

from bench.soak.load import Load
from bench.soak.verdict import Promise
from bench.table import aligned


def report(load: Load, found: Sequence[Promise], seconds: float) -> str:
    """Every line of it."""
    return "\n".join(
        [
            "",
            f"{load.ledger.ended} calls in {seconds:.0f} s ended as: {counted(load.ledger.words())}",
            f"what was done to them: {counted(load.spoilt)}",
            "",
            aligned([each.as_cells() for each in found]),
        ]
    )


def counted(words: Mapping[str, int]) -> str:
    """The most frequent first."""
    return ", ".join(f"{word} {count}" for word, count in sorted(words.items(), key=lambda item: -item[1]))
