//! The name by which programs find the shared library, whatever its file is called while it is built.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libringway.so.0");
    println!("cargo::rerun-if-changed=build.rs");
}
