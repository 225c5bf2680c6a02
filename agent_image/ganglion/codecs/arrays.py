"""numpy arrays inside MsgPack bodies: an extension type that holds the array's type, shape and bytes.

```
ext 78: length u8 | dtype (ASCII, as numpy's `dtype.str`) | dimensions u8 | dimensions × u64 | elements in C order      (little endian)
```
The sender copies an array's elements into the body. The receiver's array is a read-only view of the body: nothing is copied, and a body that
came in a large frame is libzmq's own memory. Only plain numbers, booleans, times and texts of fixed width are known: objects would need
pickle, and a structured type is more than its `dtype.str` tells. numpy is never imported on the sending side, and on the receiving one only
when an array comes.
"""

from __future__ import annotations

import math
import re
import struct
import sys
from typing import Any

import msgspec

ARRAY = 78
"""Code of the extension type."""
_DTYPE = re.compile(r"[<>|=][biufcSUmM][0-9]{1,6}(\[[a-zA-Z0-9]{1,8}\])?")
_MAX_DIMENSIONS = 32


def encode_other(value: Any) -> Any:
    """What stands for a value that MsgPack does not know; raises TypeError when nothing does."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.generic) and not isinstance(value, numpy.void):
            return value.item()
        if type(value) in (numpy.ndarray, numpy.memmap):
            return msgspec.msgpack.Ext(ARRAY, _pack(value))
    # The codec's error says the rest.
    raise TypeError("MsgPack has no such type")


def _pack(array: Any) -> bytearray:
    name = array.dtype.str
    if _DTYPE.fullmatch(name) is None or array.dtype.names is not None:
        raise TypeError(f"an array of {array.dtype} is not plain numbers; send its parts")
    head = struct.pack(f"<B{len(name)}sB{array.ndim}Q", len(name), name.encode("ascii"), array.ndim, *array.shape)
    body = bytearray(len(head) + array.nbytes)
    body[: len(head)] = head
    if array.nbytes:
        from numpy import copyto, frombuffer

        copyto(frombuffer(body, array.dtype, array.size, len(head)).reshape(array.shape), array)
    return body


def decode_extension(code: int, data: memoryview) -> Any:
    """An array, or the extension as it came.

    Raises:
        ValueError: it says that it is an array, and is none; or numpy is not installed.
    """
    if code != ARRAY:
        return msgspec.msgpack.Ext(code, bytes(data))
    try:
        length = data[0]
        name = bytes(data[1 : 1 + length]).decode("ascii")
        dimensions = data[1 + length]
        if _DTYPE.fullmatch(name) is None or dimensions > _MAX_DIMENSIONS:
            raise ValueError(f"array: found type {name!r} and {dimensions} dimensions; refused")
        shape = struct.unpack_from(f"<{dimensions}Q", data, 2 + length)
    except (IndexError, struct.error) as error:
        raise ValueError(f"array: its head is cut off: {error}") from None
    try:
        import numpy
    except ImportError:
        raise ValueError("array: numpy is not installed here; install ganglion[numpy]") from None
    dtype = numpy.dtype(name)
    if not dtype.itemsize:
        # Any number of such elements fits into no bytes, and numpy would give each of them one.
        raise ValueError(f"array: found type {name!r}, whose elements have no bytes; refused")
    elements = data[2 + length + 8 * dimensions :]
    if dtype.itemsize * math.prod(shape) != elements.nbytes:
        raise ValueError(f"array: found {elements.nbytes} bytes of elements; {name} {shape} has {dtype.itemsize * math.prod(shape)}")
    if not elements.nbytes:
        return numpy.empty(shape, dtype)
    return numpy.frombuffer(elements.toreadonly(), dtype).reshape(shape)
