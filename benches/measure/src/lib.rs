//! The measuring kit.
