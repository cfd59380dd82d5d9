from tests.core.pool import pool

__all__ = ["pool"]
