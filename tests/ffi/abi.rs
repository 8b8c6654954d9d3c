//! The C ABI, seen from outside: the header by C and C++ compilers, the symbols by `nm`, the calls by
//! programs of four languages, the installed package by the tools that look for one.
//!
//! A compiler or tool that is not there is announced as skipped, once for each test that wants it.

mod calls;
mod codes;
mod examples;
mod header;
mod install;
mod pairs;
mod python;
mod symbols;
mod tools;
