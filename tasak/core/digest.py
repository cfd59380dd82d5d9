"""What stands for a JSON value where that may be long, or a secret."""

import hashlib
import json
from typing import Any


def digest(*parts: Any) -> str:
    """The same for the same JSON values, whatever the order of their keys, and for no others."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
