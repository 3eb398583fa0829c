"""Foreign bytes are read in here: what pydicom and its decoders raise on bytes that are not what they claim to be.

`decoding` stands round the call into pydicom or a decoder and round nothing else, so that a mistake of ours stays a
mistake of ours. What the machine says of itself, an error with an errno or no memory, is never taken for bad bytes.
"""

from __future__ import annotations

import struct
import zlib
from types import TracebackType

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


class decoding:  # noqa: N801 - reads as what it is, a `with` block
    """Bytes that cannot be read end as UnusableSeries with `reason`; errors of the machine and our own pass.

    A class, because it stands round every value of every header, and a generator costs three times as much.
    """

    __slots__ = ("reason",)

    def __init__(self, reason: Reason) -> None:
        self.reason = reason

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or (isinstance(error, OSError) and error.errno is not None):
            return
        # a panic in a decoder written in Rust is no Exception in Python
        if isinstance(error, BROKEN) or type(error).__name__ == "PanicException":
            raise UnusableSeries(self.reason) from error
