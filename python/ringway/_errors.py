"""Statuses as exceptions."""

from __future__ import annotations

from ._native import ffi, lib


class Error(Exception):
    """A call that failed. `name` is that of ringway.h, such as RINGWAY_E_NOT_FOUND."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.name = ffi.string(lib.ringway_status_text(status)).decode().partition(":")[0]
        super().__init__(f"{self.name}: {text}")


class NotNow(Error):
    """Nothing was changed; trying again later makes sense."""


class Full(NotNow):
    """No room: in the ring, in the pool, or by a limit of the queue or the shard."""


class Empty(NotNow):
    """Nothing was there, or came in time, where something has to be."""


class Lagged(NotNow):
    """A lossy reader or a listener was too slow: `missed` records are lost, reading goes on (at `position`)."""

    missed = 0
    position = 0


_FULL = (
    lib.RINGWAY_FULL,
    lib.RINGWAY_STALLED,
    lib.RINGWAY_OVER_LIMIT,
    lib.RINGWAY_POOL_EXHAUSTED,
    lib.RINGWAY_DEDUP_FULL,
    lib.RINGWAY_THROTTLED,
)
NOTHING = (lib.RINGWAY_EMPTY, lib.RINGWAY_TIMEOUT)


def error(status: int) -> Error:
    """The exception of a status that is not 0."""
    if status < 0:
        return Error(status, ffi.string(lib.ringway_last_error()).decode())
    text = ffi.string(lib.ringway_status_text(status)).decode().partition(": ")[2]
    if status in _FULL:
        return Full(status, text)
    if status in NOTHING:
        return Empty(status, text)
    if status == lib.RINGWAY_LAGGED:
        return Lagged(status, text)
    return NotNow(status, text)


def check(status: int) -> None:
    """Raises where a call is not done."""
    if status != 0:
        raise error(status)
