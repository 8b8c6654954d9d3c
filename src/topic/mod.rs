//! Topics: what is published once is delivered to everyone who subscribed (the SNS model).
//!
//! `filter` decides who gets a message; it knows messages and policies and no shared memory.

pub mod filter;
