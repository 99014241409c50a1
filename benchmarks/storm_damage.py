"""Damages bytes: cut off, flipped, lost, doubled, with huge lengths or hostile words."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

# Words that are hard for readers of text: a digit that int() refuses, more digits than int() takes, NaN and infinity,
# brackets deeper than any recursion, bytes that are not UTF-8, line ends of other systems, a null byte.
_WORDS = (
    "²".encode(),
    b"9" * 5000,
    b"NaN",
    b"1e999",
    b"-1",
    b"null",
    b"[]",
    b"{}",
    b'"',
    b"[" * 200_000,
    b'{"a":' * 100_000,
    b"\xff\xfe",
    b"\x00",
    b"\xe2\x80\xa8",
    b"\r",
    b"\n",
    b",",
    b"99999999999999999999",
    b"../../x",
)
_LENGTHS = (0, 1, 0x7F, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def damaged(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """The bytes with one damage, or up to four, and the names of the damages."""
    words = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        harm = rng.choice(_HARMS)
        data = harm(data, rng)
        words.append(harm.__name__.strip("_"))
    return data, "+".join(words)


def _place(data: bytes, rng: random.Random) -> int:
    # Headers are short and matter most; ends of files hold directories.
    edge = rng.random()
    if edge < 0.4:
        return rng.randrange(min(len(data), 96) + 1)
    if edge < 0.6:
        return max(0, len(data) - rng.randrange(96))
    return rng.randrange(len(data) + 1)


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = _place(data, rng)
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 64, 512, 4096)))


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _empty(data: bytes, rng: random.Random) -> bytes:
    return b"" if rng.random() < 0.3 else data[:1]


def _flip(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 16))):
        if out:
            out[min(_place(data, rng), len(out) - 1)] ^= 1 << rng.randrange(8)
    return bytes(out)


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 8, 100))) + data[at:]


def _lose(data: bytes, rng: random.Random) -> bytes:
    start, stop = _span(data, rng)
    return data[:start] + data[stop:]


def _twice(data: bytes, rng: random.Random) -> bytes:
    start, stop = _span(data, rng)
    return data[:stop] + data[start:stop] + data[stop:]


def _swap(data: bytes, rng: random.Random) -> bytes:
    (a, b), length = sorted((_place(data, rng), _place(data, rng))), rng.choice((1, 8, 512))
    length = min(length, b - a, len(data) - b)
    return data[:a] + data[b : b + length] + data[a + length : b] + data[a : a + length] + data[b + length :]


def _zero(data: bytes, rng: random.Random) -> bytes:
    start, stop = _span(data, rng)
    return data[:start] + bytes(stop - start) + data[stop:]


def _length(data: bytes, rng: random.Random) -> bytes:
    form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    value = rng.choice(_LENGTHS) % 2 ** (8 * struct.calcsize(form))
    at = _place(data, rng)
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


def _word(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.choice(_WORDS) + data[at + rng.choice((0, 0, 1, 4)) :]


def _value(data: bytes, rng: random.Random) -> bytes:
    """Replaces a value of a text: after a colon, a comma, a blank or a tab."""
    marks = [at for at, byte in enumerate(data[:20_000]) if byte in b":, \t"]
    if not marks:
        return _word(data, rng)
    start = rng.choice(marks) + 1
    stop = next((at for at in range(start, len(data)) if data[at] in b",}]\n\t "), len(data))
    return data[:start] + rng.choice((*_WORDS, b'"x"', b"true", b"1.5", b"0")) + data[stop:]


_HARMS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _cut,
    _empty,
    _flip,
    _flip,
    _insert,
    _lose,
    _twice,
    _swap,
    _zero,
    _length,
    _word,
    _value,
)
