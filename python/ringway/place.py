"""Bytes in place: views of what was received, loans to fill.

A view's `data` is a read-only memoryview of the shared memory itself, a loan's a writable one. Both end
with the view or the loan: an access afterwards raises ValueError. While arrays or slices made of `data`
are alive, ending raises BufferError, so nobody ever looks at bytes that are no longer his.
"""

from __future__ import annotations

import ctypes
import weakref
from types import TracebackType
from typing import Any, Callable, Generic, Optional, Type, TypeVar

from ._errors import check
from ._native import ffi, lib

About = TypeVar("About")


class _Place:
    """Memory of somebody else under a memoryview. It knows whether anything made of that is alive: all
    of it refers to one object, and that is gone with the last of them. (The memoryview itself does not
    know: numpy makes another one of the same buffer.)"""

    def __init__(self, pointer: Any, length: int, readonly: bool) -> None:
        address = int(ffi.cast("uintptr_t", pointer))
        memory = (ctypes.c_ubyte * length).from_address(address) if length else bytearray()
        self._memory = weakref.ref(memory) if length else None
        view = memoryview(memory).cast("B")
        self.data: memoryview = view.toreadonly() if readonly else view

    def array(self, dtype: Any) -> Any:
        try:
            import numpy
        except ImportError as missing:
            raise ImportError("array() needs numpy: pip install numpy, or use data") from missing

        return numpy.asarray(self.data).view(dtype)

    def end(self) -> None:
        """BufferError while arrays or slices of it are alive; then nothing has changed."""
        readonly = self.data.readonly
        self.data.release()
        memory = self._memory() if self._memory is not None else None
        if memory is not None:
            view = memoryview(memory).cast("B")
            self.data = view.toreadonly() if readonly else view
            raise BufferError("arrays or slices of these bytes are alive; let go of them first")


class View(Generic[About]):
    """A message or record looked at where it lies; ends with its with statement. Until then its receiver
    or reader can do nothing else; `about` says what was received."""

    def __init__(self, end: Callable[[], None], about: About, pointer: Any, length: int) -> None:
        self._end: Optional[Callable[[], None]] = end
        self.about = about
        self._place = _Place(pointer, length, readonly=True)

    @property
    def data(self) -> memoryview:
        """The bytes themselves."""
        return self._place.data

    def array(self, dtype: Any = "uint8") -> Any:
        """The bytes as a numpy array, not copied. It has to be gone before the view ends."""
        return self._place.array(dtype)

    def close(self) -> None:
        """Ends the view. BufferError while arrays or slices of it are alive."""
        if self._end is None:
            return
        self._place.end()
        end, self._end = self._end, None
        end()

    def __len__(self) -> int:
        return len(self.data)

    def __enter__(self) -> "View[About]":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_end", None) is not None:
            try:
                self.close()
            except BufferError:
                # Somebody still looks: the view stays open, and with it the bytes stay.
                pass


class Loan:
    """Bytes of the payload pool to fill and send without a copy. Not sent, they go back."""

    def __init__(self, send: Callable[[Any, int, Any], int], handle: Any, pointer: Any, length: int) -> None:
        self._send = send
        self._handle = handle
        self._pointer = pointer
        self._place = _Place(pointer, length, readonly=False)

    @property
    def data(self) -> memoryview:
        """The bytes themselves."""
        return self._place.data

    def array(self, dtype: Any = "uint8") -> Any:
        """The bytes as a numpy array to fill. It has to be gone before the loan is sent."""
        return self._place.array(dtype)

    def send(self, length: Optional[int] = None) -> int:
        """Sends the first `length` bytes, all by default; the position. Where that fails the loan stays.
        BufferError while arrays or slices of it are alive."""
        whole = len(self.data)
        size = whole if length is None else length
        self._place.end()
        position = ffi.new("uint64_t *")
        status = self._send(self._handle, size, position)
        if status != 0:
            # It is there still, and as long as it was to be sent.
            self._place = _Place(self._pointer, min(size, whole), readonly=False)
            check(status)
        self._handle = ffi.NULL
        return int(position[0])

    def close(self) -> None:
        """Gives the bytes back; nothing to do once they were sent."""
        if self._handle != ffi.NULL:
            self._place.end()
            handle, self._handle = self._handle, ffi.NULL
            lib.ringway_close(handle)

    def __len__(self) -> int:
        return len(self.data)

    def __enter__(self) -> "Loan":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", ffi.NULL) != ffi.NULL:
            try:
                self.close()
            except BufferError:
                # Somebody still writes: the bytes stay lent.
                pass
