"""Makes the native module of the package: the declarations of ringway.h, checked by the C compiler, and
the static library inside, so that a wheel needs no other file.

The header and the library are those of an installation (`cargo xtask install --prefix P`): P is
$RINGWAY_PREFIX, or pkg-config knows it.
"""

import os
import re
import subprocess

from cffi import FFI

# Integers that the header defines by the preprocessor.
CONSTANTS = (
    "RINGWAY_API_VERSION RINGWAY_ABI_VERSION RINGWAY_FOREVER RINGWAY_QUEUE_WAIT RINGWAY_DEFAULT "
    "RINGWAY_NONE RINGWAY_RECEIPT_TEXT RINGWAY_REDRIVE_SOURCES"
).split()


def prefix() -> str:
    given = os.environ.get("RINGWAY_PREFIX")
    if given:
        return given
    asked = ["pkg-config", "--variable=prefix", "ringway"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def library(prefix: str) -> str:
    for below in ("lib", "lib64"):
        found = os.path.join(prefix, below, "libringway.a")
        if os.path.exists(found):
            return found
    raise FileNotFoundError(f"no libringway.a below {prefix}; run cargo xtask install there")


def declarations(header: str) -> str:
    """What the header declares, as cffi reads it: no preprocessor, no bodies of functions."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    text = text[text.index("enum ringway_status") : text.rindex("#ifdef __cplusplus")]
    text = re.sub(r"^#.*$", "", text, flags=re.M)
    text = text.replace("RINGWAY_MUST_CHECK", "")
    text = re.sub(r"static inline ([^{;]*\)) \{.*?\n\}", r"\1;", text, flags=re.S)
    text = text.replace("[RINGWAY_REDRIVE_SOURCES]", "[...]")
    return "".join(f"#define {name} ...\n" for name in CONSTANTS) + text


ffibuilder = FFI()
_prefix = prefix()
with open(os.path.join(_prefix, "include", "ringway.h"), encoding="utf-8") as _header:
    ffibuilder.cdef(declarations(_header.read()))
ffibuilder.set_source(
    "ringway._native",
    "#include <ringway.h>",
    include_dirs=[os.path.join(_prefix, "include")],
    extra_objects=[library(_prefix)],
    # What the library has beside its functions stays inside the module.
    extra_link_args=["-Wl,--exclude-libs,ALL", "-Wl,--gc-sections", "-Wl,--strip-debug"],
    libraries=["gcc_s", "rt", "pthread", "m", "dl"],
    py_limited_api=True,
    define_macros=[("Py_LIMITED_API", "0x03090000")],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
