"""Options of Python as the configs of ringway.h."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, TypeVar

from ._errors import check
from ._handle import text
from ._native import ffi, lib

HOW = {"open_or_create": 0, "open": 1, "create": 2}
IDLES = {"spin": 1, "spin_then_park": 2, "park": 3}
BEHIND = {"block": 1, "fail": 2, "drop_oldest": 3, "evict": 4}
SCOPES = {"attributes": 1, "body": 2}


Made = TypeVar("Made")


class Config:
    """A config as its _init leaves it, and of `fields` those that say something: what is None stays as it
    is. `c` is for calls, as long as this is alive."""

    def __init__(self, kind: str, /, **fields: Any) -> None:
        self.c: Any = ffi.new(f"ringway_{kind}_config_t *")
        self._kept: List[Any] = []
        getattr(lib, f"ringway_{kind}_config_init")(self.c)
        for name, value in fields.items():
            if isinstance(value, str):
                value = text(value)
                self._kept.append(value)
            if value is not None:
                setattr(self.c, name, value)


def ms(seconds: Optional[float]) -> Optional[int]:
    """Seconds as a field in ms."""
    return None if seconds is None else round(seconds * 1000)


def switch(value: Optional[bool]) -> Optional[int]:
    """On or off."""
    return either(value, lib.RINGWAY_ON, lib.RINGWAY_OFF)


def either(value: Optional[bool], yes: int, no: int) -> Optional[int]:
    """One constant or the other."""
    return None if value is None else yes if value else no


def choice(choices: Dict[str, int], value: Optional[str]) -> Optional[int]:
    """The constant that a word names."""
    if value is None:
        return None
    if value not in choices:
        raise ValueError(f"{value!r} is none of {', '.join(map(repr, choices))}")
    return choices[value]


def listed(
    kind: str, call: Callable[[Any, int, Any], int], make: Callable[[Any], Made]
) -> List[Made]:
    """All that a call lists into an array, each made into something of Python."""
    count = ffi.new("size_t *", 16)
    while True:
        room = count[0]
        all_ = ffi.new(f"ringway_{kind}_t[]", room)
        check(call(all_, room, count))
        if count[0] <= room:
            return [make(all_[at]) for at in range(count[0])]


def counts(kind: str, handle: Any) -> Dict[str, int]:
    """What the stats of an object say, by the names of ringway.h."""
    stats = ffi.new(f"ringway_{kind}_stats_t *")
    check(getattr(lib, f"ringway_{kind}_stats")(handle, stats, ffi.sizeof(stats[0])))
    return {name: int(getattr(stats, name)) for name in dir(stats)}
