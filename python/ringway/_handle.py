"""What all handles have in common: closing in time, waiting so that signals are seen."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Callable, Optional, Type, TypeVar, Union

from ._errors import check
from ._native import ffi, lib

Self = TypeVar("Self", bound="Handle")
Buffer = Union[bytes, bytearray, memoryview, Any]
"""Anything with a buffer; numpy arrays too."""

# The longest that a call waits without a look at signals.
_SLICE_NS = 100_000_000


class Handle:
    """Closed by close(), at the end of a with statement, or when nobody refers to it any more."""

    _handle: Any = ffi.NULL

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def close(self) -> None:
        """Closes; twice is no error."""
        handle, self._handle = self._handle, ffi.NULL
        lib.ringway_close(handle)

    @property
    def closed(self) -> bool:
        return bool(self._handle == ffi.NULL)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # At the end of the interpreter the module may be gone already.
        if self._handle != ffi.NULL and lib is not None:
            lib.ringway_close(self._handle)
            self._handle = ffi.NULL


def opened(kind: str, call: Callable[[Any], int]) -> Any:
    """The handle that a call opens."""
    out = ffi.new(f"{kind} **")
    check(call(out))
    return out[0]


def descriptor(of: Handle) -> int:
    """What select, poll or asyncio wait for."""
    fd = ffi.new("int32_t *")
    check(lib.ringway_poll_fd(of._handle, fd))
    return int(fd[0])


def text(value: Optional[str]) -> Any:
    return ffi.NULL if value is None else ffi.new("char[]", value.encode())


def bytes_of(body: Buffer) -> Any:
    """The bytes of a buffer for a call; a str would be a guess at an encoding."""
    if isinstance(body, str):
        raise TypeError("bodies are bytes: encode text first")
    return ffi.from_buffer("char[]", body)


def patiently(call: Callable[[int], int], timeout: Optional[float], nothing: tuple[int, ...]) -> int:
    """Calls with a timeout_ns, in slices; `nothing` are the statuses behind which it goes on waiting."""
    if timeout is not None and timeout <= 0:
        return call(0)
    end = None if timeout is None else time.monotonic_ns() + int(timeout * 1e9)
    while True:
        left = _SLICE_NS if end is None else max(0, end - time.monotonic_ns())
        status = call(min(left, _SLICE_NS))
        if status not in nothing or left == 0:
            return status
