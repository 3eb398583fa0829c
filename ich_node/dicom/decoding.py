"""Foreign bytes are read in here: what pydicom and its decoders raise on bytes that are not what they claim to be.

`decoding` stands round the call into pydicom or a decoder and round nothing else, so that a mistake of ours stays a
mistake of ours. What the machine says of itself, an error with an errno or no memory, is never taken for bad bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.errors import BytesLengthException, InvalidDicomError

from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason

BROKEN = (
    InvalidDicomError,
    BytesLengthException,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    OSError,  # of decoders, without an errno
    RuntimeError,  # decoders; NotImplementedError; RecursionError of nested sequences
    ArithmeticError,
    struct.error,
    zlib.error,
)


@contextmanager
def decoding(reason: Reason) -> Iterator[None]:
    """Bytes that cannot be read end as UnusableSeries with `reason`; errors of the machine and our own pass."""
    try:
        yield
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnusableSeries(reason) from error
    except BaseException as error:  # a panic in a decoder written in Rust is no Exception in Python
        if type(error).__name__ != "PanicException":
            raise
        raise UnusableSeries(reason) from error
