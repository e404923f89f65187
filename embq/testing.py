"""Help for tests of applications that use embq."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embq.broker import Broker


@contextlib.contextmanager
def temporary(**options: Any) -> Iterator[Broker]:
    """Open a broker on a file that goes away.

    Args:
        options: As for `embq.open`. Default durability: "normal".

    Yields:
        The broker.
    """
    with tempfile.TemporaryDirectory(prefix="embq-") as folder:
        options.setdefault("durability", "normal")
        with Broker(Path(folder, "temporary.db"), **options) as broker:
            yield broker
