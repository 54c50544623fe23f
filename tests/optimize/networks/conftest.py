from __future__ import annotations

from typing import Any

import pytest
from published import import_seeding


@pytest.fixture(scope="module")
def seeded() -> Any:
    """The public module that makes weights and inputs from names and shapes."""
    return import_seeding()
