"""The native module is compiled against ringway.h; everything else says pyproject.toml."""

from setuptools import setup

# One wheel for every Python from 3.9 on: the module keeps to the limited API.
setup(
    cffi_modules=["build_native.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp39"}},
)
