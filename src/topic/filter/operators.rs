//! One element of a policy's array, read: a value, or an object with one operator.

use super::cidr::Block;
use super::condition::Condition;
use super::error::PolicyError;
use super::json::Json;
use super::number::Decimal;
use super::policy::PolicyLimits;
use super::wildcard::Pattern;

/// The operators; in the objects of `$or` they are no keys.
pub(super) const OPERATORS: [&str; 8] = [
    "prefix",
    "suffix",
    "anything-but",
    "numeric",
    "exists",
    "cidr",
    "equals-ignore-case",
    "wildcard",
];
/// Numbers lie between this and its negative.
const MAX_NUMBER: i64 = 1_000_000_000;

/// Reads one element of the array at some key.
pub(super) fn condition(json: &Json, limits: &PolicyLimits) -> Result<Condition, PolicyError> {
    let Json::Object(entries) = json else {
        return value(json, limits);
    };
    let [(operator, operand)] = &**entries else {
        return Err(PolicyError::NotOneOperator);
    };
    match &**operator {
        "anything-but" => anything_but(operand, limits),
        "numeric" => numeric(operand, limits),
        "exists" => match operand {
            Json::Bool(true) => Ok(Condition::Exists),
            Json::Bool(false) => Ok(Condition::Absent),
            _ => Err(PolicyError::InvalidExists),
        },
        // SNS answers as if it were a prefix.
        "cidr" => Block::parse(text(operand, "prefix")?)
            .map(Condition::Cidr)
            .map_err(|problem| PolicyError::InvalidCidr { problem }),
        operator => match pattern_of(operator) {
            Some(name) => pattern(name, operand, limits),
            None => Err(PolicyError::UnknownOperator {
                operator: operator.to_owned(),
            }),
        },
    }
}

fn value(json: &Json, limits: &PolicyLimits) -> Result<Condition, PolicyError> {
    Ok(match json {
        Json::Null => Condition::Null,
        Json::Bool(value) => Condition::Bool(*value),
        Json::Number(_) => Condition::Number(number(json, limits)?.expect("it is a number")),
        Json::Text(text) => Condition::Text(text.as_str().into()),
        Json::Array(_) | Json::Object(_) => return Err(PolicyError::InvalidValue),
    })
}

/// The number; none if it is something else.
fn number(json: &Json, limits: &PolicyLimits) -> Result<Option<Decimal>, PolicyError> {
    let Json::Number(number) = json else {
        return Ok(None);
    };
    let decimal = match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => Decimal::of_i64(whole),
        (None, Some(float)) => Decimal::of_f64(float),
        (None, None) => None,
    };
    let bound = Decimal::of_i64(MAX_NUMBER).expect("far below the largest");
    let in_range = |number: &Decimal| !limits.number_range || number.0.abs() <= bound.0;
    decimal
        .filter(in_range)
        .map(Some)
        .ok_or_else(|| PolicyError::OutOfRange {
            value: number.to_string(),
        })
}

fn text<'a>(json: &'a Json, operator: &'static str) -> Result<&'a str, PolicyError> {
    match json {
        Json::Text(text) => Ok(text),
        _ => Err(PolicyError::NotText { operator }),
    }
}

/// The operators that compare a text with a pattern.
fn pattern_of(operator: &str) -> Option<&'static str> {
    ["prefix", "suffix", "equals-ignore-case", "wildcard"]
        .into_iter()
        .find(|name| *name == operator)
}

fn pattern(
    operator: &'static str,
    operand: &Json,
    limits: &PolicyLimits,
) -> Result<Condition, PolicyError> {
    let text = text(operand, operator)?;
    Ok(match operator {
        "prefix" => Condition::Prefix(text.into()),
        "suffix" => Condition::Suffix(text.into()),
        "equals-ignore-case" => Condition::IgnoreCase(text.to_lowercase().into()),
        _ => {
            let invalid = |problem| PolicyError::InvalidWildcard { problem };
            let pattern = Pattern::parse(text).map_err(invalid)?;
            match limits.stars {
                Some(most) if pattern.stars() > most => {
                    return Err(invalid(format!(
                        "A single pattern must not contain more than {most} wildcards"
                    )));
                }
                _ => Condition::Wildcard(pattern),
            }
        }
    })
}

fn anything_but(operand: &Json, limits: &PolicyLimits) -> Result<Condition, PolicyError> {
    let excluded = match operand {
        Json::Object(entries) => {
            let [(operator, operand)] = &**entries else {
                return Err(PolicyError::NotOneOperator);
            };
            let Some(name) = pattern_of(operator) else {
                return Err(PolicyError::UnsupportedAnythingBut {
                    operator: operator.clone(),
                });
            };
            each(operand, |one| pattern(name, one, limits))?
        }
        values => each(values, |one| value(one, limits))?,
    };
    Ok(Condition::AnythingBut(excluded))
}

/// What is made of one value, or of each of an array.
fn each(
    operand: &Json,
    read: impl Fn(&Json) -> Result<Condition, PolicyError>,
) -> Result<Box<[Condition]>, PolicyError> {
    let mut read: Vec<Condition> = match operand {
        Json::Array(values) if values.is_empty() => {
            let key = "anything-but".into();
            return Err(PolicyError::EmptyArray { key });
        }
        Json::Array(values) => values.iter().map(read).collect::<Result<_, _>>()?,
        one => vec![read(one)?],
    };
    read.sort();
    read.dedup();
    Ok(read.into())
}

/// `["=", 5]`, `[">", 0]`, `[">=", 0, "<", 150]`.
fn numeric(operand: &Json, limits: &PolicyLimits) -> Result<Condition, PolicyError> {
    let problem = |problem: String| PolicyError::InvalidNumeric { problem };
    let Json::Array(members) = operand else {
        return Err(problem("Value of numeric must be an array.".into()));
    };
    let mut members = members.iter();
    let mut bound = |first: bool| -> Result<Option<(&str, Decimal)>, PolicyError> {
        let operator = match members.next() {
            None if first => return Err(problem("Invalid member in numeric match: ]".into())),
            None => return Ok(None),
            Some(Json::Text(operator)) => operator.as_str(),
            Some(_) if first => return Err(problem("Invalid member in numeric match".into())),
            Some(_) => return Err(problem("Bad value in numeric range".into())),
        };
        let (allowed, wrong): (&[&str], _) = if first {
            (
                &["=", "<", "<=", ">", ">="],
                "Unrecognized numeric range operator",
            )
        } else {
            (&["<", "<="], "Bad numeric range operator")
        };
        if !allowed.contains(&operator) {
            return Err(problem(format!("{wrong}: {operator}")));
        }
        let name = if operator == "=" { "equals" } else { operator };
        let value = members
            .next()
            .map_or(Ok(None), |json| number(json, limits))?;
        match value {
            Some(value) => Ok(Some((operator, value))),
            None => Err(problem(format!("Value of {name} must be numeric"))),
        }
    };
    let (operator, value) = bound(true)?.expect("the first is not left out");
    let (least, most) = (Decimal(i64::MIN), Decimal(i64::MAX));
    let from = match operator {
        "=" | "<" | "<=" => {
            let condition = match operator {
                "=" => Condition::Number(value),
                "<" => Condition::Range(least, Decimal(value.0 - 1)),
                _ => Condition::Range(least, value),
            };
            return match members.next() {
                None => Ok(condition),
                Some(_) => Err(problem("Too many elements in numeric expression".into())),
            };
        }
        ">" => Decimal(value.0 + 1),
        _ => value,
    };
    let Some((operator, top)) = bound(false)? else {
        return Ok(Condition::Range(from, most));
    };
    if top <= value {
        return Err(problem("Bottom must be less than top".into()));
    }
    if members.next().is_some() {
        return Err(problem("Too many terms in numeric range expression".into()));
    }
    let to = if operator == "<" {
        Decimal(top.0 - 1)
    } else {
        top
    };
    Ok(Condition::Range(from, to))
}
