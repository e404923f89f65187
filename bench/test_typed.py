"""What a schema costs: `pytest bench/test_typed.py --benchmark-only`.

The two halves of a typed queue beside the plain codec, without a file: what `send` does
to data, and what `receive` does to a body.
"""

import dataclasses

import msgspec
import pytest

from embq._codec import CODECS
from embq._view import Form, View


class Order(msgspec.Struct):
    """About 90 bytes of JSON."""

    id: int
    name: str
    items: list[int]
    note: str


@dataclasses.dataclass
class OrderClass:
    """The same as a dataclass."""

    id: int
    name: str
    items: list[int]
    note: str


class Line(msgspec.Struct):
    """A part of an invoice."""

    sku: str
    count: int
    price: float


class Invoice(msgspec.Struct):
    """About 1.2 KB of JSON."""

    lines: list[Line]


DATA = {
    "struct-90B": Order(1, "abc", [1, 2, 3], "x" * 40),
    "dataclass-90B": OrderClass(1, "abc", [1, 2, 3], "x" * 40),
    "struct-1200B": Invoice([Line("abc" * 4, i, 1.5 * i) for i in range(25)]),
}
each = pytest.mark.parametrize("data", DATA.values(), ids=DATA.keys())


def form(data):
    """Return the form of this data's type."""
    return Form(View(type(data), None, None, None, {}), "json")


@each
@pytest.mark.benchmark(group="send")
def test_encode_plain(benchmark, data):
    """Encode only."""
    benchmark(CODECS["json"].encode, data)


@each
@pytest.mark.benchmark(group="send")
def test_encode_typed(benchmark, data):
    """Encode, and check that it can be decoded."""
    benchmark(form(data).encode, data)


@each
@pytest.mark.benchmark(group="receive")
def test_decode_plain(benchmark, data):
    """Decode to dicts."""
    benchmark(CODECS["json"].decode, CODECS["json"].encode(data))


@each
@pytest.mark.benchmark(group="receive")
def test_decode_typed(benchmark, data):
    """Decode to the type."""
    benchmark(form(data).read, CODECS["json"].encode(data), None)
