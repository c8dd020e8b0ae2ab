"""Records of numbers and arrays: a NamedTuple in Python, words in memory for compiled code.

Compiled code is given the address of the words, and reads a field when it names it: x.net.W. Thus a
call costs nothing for what it might need, to run as to compile (Numba's own tuples go from function
to function by value, array by array), and functions can be called by address (`stages`).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, lower_getattr_generic, models, register_model
from numpy.typing import NDArray

from .intrinsics import I64, array_of

WORD_BYTES = 8


def words_of(record: Any) -> list[int]:
    """Of a number one, of an array its address and shape, of a record those of its fields."""
    words: list[int] = []
    for field in record:
        if isinstance(field, int):
            words.append(field)
        elif isinstance(field, np.ndarray):
            if not field.flags.c_contiguous:
                raise ValueError("an array in a record must be C-contiguous")
            words += field.__array_interface__["data"][0], *field.shape
        elif isinstance(field, float):
            words += struct.unpack("q", struct.pack("d", field))
        else:
            words += words_of(field)
    return words


def in_memory(record: Any) -> NDArray[np.int64]:
    """The words. They keep nothing alive: that is for the record."""
    return np.array(words_of(record), np.int64)


class RecordType(types.Type):
    """The address of a record of some class, whose arrays have the types of an example's."""

    def __init__(self, example: Any, variant: str) -> None:
        super().__init__(f"{type(example).__name__}({variant})")
        self.fields: dict[str, tuple[Any, int]] = {}  # its type, and its first word's place
        place = 0
        for name, field in zip(example._fields, example, strict=True):
            is_record = isinstance(field, tuple)
            self.fields[name] = RecordType(field, variant) if is_record else typeof(field), place
            place += len(words_of((field,)))


@register_model(RecordType)
class _AddressModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, kind: Any) -> None:
        super().__init__(dmm, kind, I64)


@infer_getattr
class _FieldTypes(AttributeTemplate):
    key = RecordType

    def generic_resolve(self, kind: Any, name: str) -> Any:
        return kind.fields[name][0] if name in kind.fields else None


@lower_getattr_generic(RecordType)
def _read_field(context: Any, builder: Any, kind: Any, address: Any, name: str) -> Any:
    field, place = kind.fields[name]
    address = builder.add(address, I64(WORD_BYTES * place))
    if isinstance(field, RecordType):
        return address

    def word(i: int, word_type: Any) -> Any:
        at = builder.add(address, I64(WORD_BYTES * i))
        return builder.load(builder.inttoptr(at, ir.PointerType(word_type)))

    if not isinstance(field, types.Array):
        return word(0, context.get_value_type(field))
    data = word(0, ir.PointerType(context.get_data_type(field.dtype)))
    return array_of(context, builder, field, data, [word(1 + i, I64) for i in range(field.ndim)])
