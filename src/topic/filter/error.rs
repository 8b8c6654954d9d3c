//! What is wrong with a filter policy.

/// Parsing a filter policy. Nothing was subscribed or changed.
///
/// [`reason`](Self::reason) is what SNS answers in the same case; it was taken from its documentation, from
/// the open source of its rule engine, and from recorded answers, and may differ in a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No JSON.
    #[error("{}; it is no JSON: {detail}", self.reason())]
    InvalidJson {
        /// What the parser found, and where.
        detail: String,
    },
    /// JSON, and no object.
    #[error("{}; a policy is {{\"key\": [conditions], …}}", self.reason())]
    NotAnObject,
    /// The same key twice in one object, of which one would be ignored.
    #[error("{}; give the conditions of {key:?} in one array", self.reason())]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// More bytes than a policy may have.
    #[error("{}; {bytes} bytes are more than the {max} there may be", self.reason())]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// As many as it may have.
        max: usize,
    },
    /// More keys than a policy may have.
    #[error("{}; it has {keys}: subscribe twice, or without limits", self.reason())]
    TooManyKeys {
        /// Keys at the top.
        keys: usize,
        /// As many as there may be.
        max: usize,
    },
    /// More combinations of values than a policy may have.
    #[error(
        "{}; its arrays, each times its depth, multiply to {combinations}, more than {max}: subscribe twice, or without limits",
        self.reason()
    )]
    TooComplex {
        /// The product.
        combinations: u64,
        /// The most it may be.
        max: u64,
    },
    /// An object below a key, where attributes are looked at, which have no parts.
    #[error("{}; give {key:?} an array, or let the policy look at the body", self.reason())]
    Nested {
        /// The key.
        key: String,
    },
    /// Neither an array of conditions nor an object of keys.
    #[error("{}; write [value] for a single one", self.reason())]
    NotAnArray {
        /// The key.
        key: String,
    },
    /// An array that nothing can match.
    #[error("{}; leave {key:?} out, or say what it may be", self.reason())]
    EmptyArray {
        /// The key, or the operator.
        key: String,
    },
    /// An object without keys below a key.
    #[error("{}; leave {key:?} out, or say what is in it", self.reason())]
    EmptyObject {
        /// The key.
        key: String,
    },
    /// A condition of two operators, or of none.
    #[error("{}; make two conditions of it, of which one has to hold", self.reason())]
    NotOneOperator,
    /// An operator that there isn't.
    #[error(
        "{}; there are prefix, suffix, anything-but, numeric, exists, cidr, equals-ignore-case, wildcard",
        self.reason()
    )]
    UnknownOperator {
        /// What was given.
        operator: String,
    },
    /// An operator inside of `anything-but` that can't be there.
    #[error(
        "{}; values, or one of prefix, suffix, wildcard, equals-ignore-case can be there",
        self.reason()
    )]
    UnsupportedAnythingBut {
        /// What was given.
        operator: String,
    },
    /// A condition that is an array.
    #[error("{}; or an object with one operator", self.reason())]
    InvalidValue,
    /// An operator that takes text, without.
    #[error("{}", self.reason())]
    NotText {
        /// The operator.
        operator: &'static str,
    },
    /// `exists` with something else than true and false.
    #[error("{}", self.reason())]
    InvalidExists,
    /// `numeric` with something else than one or two bounds.
    #[error("{}; write [\">\", 0, \"<=\", 150] or [\"=\", 5]", self.reason())]
    InvalidNumeric {
        /// What is wrong with it.
        problem: String,
    },
    /// A number that is too large or too small to be compared.
    #[error("{}; {value} is not", self.reason())]
    OutOfRange {
        /// The number.
        value: String,
    },
    /// No block of addresses.
    #[error("{}; write 10.0.0.0/24 or 2001:db8::/32", self.reason())]
    InvalidCidr {
        /// What is wrong with it.
        problem: String,
    },
    /// A pattern that is none, or has too many stars.
    #[error("{}; write \\* and \\\\ for the characters themselves", self.reason())]
    InvalidWildcard {
        /// What is wrong with it.
        problem: String,
    },
    /// Patterns that are too much work together.
    #[error(
        "{}; a pattern of one star counts 1, of more 3, and the sum of a key is multiplied by its patterns: {points} are more than {max}",
        self.reason()
    )]
    WildcardsTooComplex {
        /// What they count.
        points: u64,
        /// As much as they may.
        max: u64,
    },
}

impl PolicyError {
    /// The message of SNS in the same case, without the `Invalid parameter: ` in front of it.
    pub fn reason(&self) -> String {
        let reason = match self {
            Self::InvalidJson { .. } => "failed to parse JSON.".into(),
            Self::NotAnObject => "Filter is not an object".into(),
            Self::DuplicateKey { key } => format!("Path `{key}` cannot be allowed multiple times"),
            Self::TooLong { .. } => "Filter policy is too long".into(),
            Self::TooManyKeys { max, .. } => {
                format!("Filter policy can not have more than {max} keys")
            }
            Self::TooComplex { .. } => "Filter policy is too complex".into(),
            // The one message that does not name the parameter.
            Self::Nested { .. } => {
                return "Filter policy scope MessageAttributes does not support nested filter policy"
                    .into();
            }
            Self::NotAnArray { key } => format!("{key:?} must be an object or an array"),
            Self::EmptyArray { .. } => "Empty arrays are not allowed".into(),
            Self::EmptyObject { .. } => "Empty objects are not allowed".into(),
            Self::NotOneOperator => "Only one key allowed in match expression".into(),
            Self::UnknownOperator { operator } => format!("Unrecognized match type {operator}"),
            Self::UnsupportedAnythingBut { operator } => {
                format!("Unsupported anything-but pattern: {operator}")
            }
            Self::InvalidValue => "Match value must be String, number, true, false, or null".into(),
            Self::NotText { operator } => format!("{operator} match pattern must be a string"),
            Self::InvalidExists => "exists match pattern must be either true or false.".into(),
            Self::OutOfRange { .. } => "Value must be between -1.0E9 and 1.0E9, inclusive".into(),
            Self::InvalidNumeric { problem }
            | Self::InvalidCidr { problem }
            | Self::InvalidWildcard { problem } => problem.clone(),
            Self::WildcardsTooComplex { .. } => "Filter policy wildcards are too complex".into(),
        };
        format!("FilterPolicy: {reason}")
    }
}
