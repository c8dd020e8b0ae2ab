"""Records of numbers and arrays: a NamedTuple in Python, words in memory for compiled code.

Compiled functions take the address of the words, and find the NamedTuple there. Thus a call costs
nothing for what it takes, and functions can be called by address (`stages`).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.extending import intrinsic
from numpy.typing import NDArray


def words_of(record: Any) -> list[int]:
    """What Numba's own layout of the record's fields has: of an array owner, size and place."""
    if isinstance(record, tuple):
        return [word for field in record for word in words_of(field)]
    if isinstance(record, np.ndarray):
        place = record.__array_interface__["data"][0]
        return [0, 0, record.size, record.itemsize, place, *record.shape, *record.strides]
    if isinstance(record, float):
        return list(struct.unpack("q", struct.pack("d", record)))
    return [record]


def in_memory(record: Any) -> NDArray[np.int64]:
    """The words. They keep nothing alive: that is for the record."""
    return np.array(words_of(record), np.int64)


def opener(example: Any) -> Any:
    """open(address): the record there, of the type of the example."""
    kind = typeof(example)

    @intrinsic
    def open_record(typingctx: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            layout = context.get_value_type(kind)
            return builder.load(builder.inttoptr(args[0], ir.PointerType(layout)))

        return kind(types.int64), code

    return open_record
