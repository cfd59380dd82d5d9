"""Scopes as OAuth writes them: words in one string, or none at all."""


def union(these: str | None, those: str | None) -> str | None:
    """All of them, each once, in the order in which they came."""
    return " ".join(dict.fromkeys([*words(these), *words(those)])) or None


def has_all(scopes: str | None, needed: str | None) -> bool:
    return set(words(needed)) <= set(words(scopes))


def words(scopes: str | None) -> list[str]:
    return (scopes or "").split()
