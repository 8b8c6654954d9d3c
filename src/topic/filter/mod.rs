//! Filter policies: the JSON language in which a subscription says which messages it wants.
//!
//! [`Policy::parse`] reads and checks a policy, and turns it into alternatives (what `$or` comes to),
//! each of which is a list of clauses: a path, and conditions of which one value at that path has to
//! fulfil one. [`Policy::explain`] looks at one policy alone and says which clause failed.
//! [`FilterIndex`] holds the policies of all subscriptions of a topic in one structure, and finds
//! those that match without looking at the others.
//!
//! The language and its limits are those of SNS: "Amazon SNS subscription filter policies",
//! <https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html>. Where its
//! documentation leaves a case open, docs/decisions/0026 says what was decided.

mod cidr;
mod condition;
mod error;
mod explain;
mod index;
mod json;
mod leaf;
mod number;
mod operators;
mod policy;
mod walk;
mod wildcard;

pub use error::PolicyError;
pub use explain::{ClauseOutcome, Explanation};
pub use index::{FilterIndex, Matches};
pub use leaf::FilterMessage;
pub use policy::{Policy, PolicyLimits, Scope};
