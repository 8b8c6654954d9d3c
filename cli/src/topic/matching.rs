//! `ringway topic match`: does a filter policy want a message, and why? No bus is needed.

use crate::output::{Place, Usage};
use crate::send::GivenAttribute;
use anyhow::{Context, bail};
use ringway::filter::{Explanation, FilterMessage, Policy, PolicyLimits, Scope};
use ringway::{Attribute, AttributeValue, Attributes};
use serde_json::{Value, json};
use std::fmt::Write;
use std::io::Read;
use std::process::ExitCode;

/// Try a filter policy on a message, and say which keys hold
///
/// Exit status: 0 it matches, 1 it doesn't, 2 the policy or the message is none.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The policy, or the file it is in
    #[arg(long, value_name = "JSON|FILE")]
    policy: String,
    /// The body of the message: JSON that begins with {, the file it is in, or - for standard input
    #[arg(long, value_name = "JSON|FILE|-")]
    message: Option<String>,
    /// An attribute of the message: name=text, name:Number=5, name:String.Array=["a","b"]
    #[arg(long = "attribute", value_name = "NAME[:TYPE]=VALUE", value_parser = GivenAttribute::parse)]
    attribute: Vec<GivenAttribute>,
    /// The attributes of the message as an object, or the file it is in: {"name": "text"}, numbers, arrays, or
    /// {"name": {"Type": "String", "Value": "text"}}
    #[arg(long, value_name = "JSON|FILE")]
    attributes: Option<String>,
    /// What the policy looks at [default: the attributes if there are any, else the body]
    #[arg(long, value_enum)]
    scope: Option<ScopeArg>,
    /// Accept policies beyond the limits of SNS
    #[arg(long)]
    no_limits: bool,
}

const EXAMPLES: &str = r#"Examples:
  ringway topic match --policy '{"store": ["a"]}' --attribute store=b
  ringway topic match --policy '{"price": [{"numeric": [">", 5]}]}' --message '{"price": 4}'
  ringway topic match --policy policy.json --message - --scope body < message.json"#;

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum ScopeArg {
    Attributes,
    Body,
}

impl From<ScopeArg> for Scope {
    fn from(scope: ScopeArg) -> Self {
        match scope {
            ScopeArg::Attributes => Self::Attributes,
            ScopeArg::Body => Self::Body,
        }
    }
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let usage = |error: anyhow::Error| Usage(format!("{error:#}"));
    let attributes = args.all_attributes().map_err(usage)?;
    let message = args.message.as_deref().map(|message| match message {
        "-" => {
            let mut body = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut body);
            read.context("can't read standard input").map(|_| body)
        }
        text => given(text, "--message"),
    });
    let message = message.transpose().map_err(usage)?.unwrap_or_default();
    let scope = match args.scope {
        Some(scope) => scope.into(),
        None if attributes.is_empty() && args.message.is_some() => Scope::Body,
        None => Scope::Attributes,
    };
    let text = given(&args.policy, "--policy").map_err(usage)?;
    let text = String::from_utf8(text).map_err(|_| Usage("--policy: it is no UTF-8".into()))?;
    let limits = match args.no_limits {
        true => PolicyLimits::NONE,
        false => PolicyLimits::SNS,
    };
    let policy = Policy::parse(&text, scope, &limits);
    let policy = policy.map_err(|error| Usage(format!("--policy: {error}")))?;
    let explained = policy.explain(&FilterMessage {
        attributes: attributes.as_ref(),
        body: &message,
    });
    place.say(as_json(&explained, scope), || as_text(&explained));
    Ok(match explained.matches {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// JSON as it is typed, or the contents of the file of that name.
pub fn given(text: &str, flag: &str) -> anyhow::Result<Vec<u8>> {
    match text.trim_start().starts_with('{') {
        true => Ok(text.as_bytes().to_vec()),
        false => std::fs::read(text)
            .with_context(|| format!("{flag}: {text:?} is no JSON object, nor a file to be read")),
    }
}

impl Args {
    fn all_attributes(&self) -> anyhow::Result<Attributes> {
        let mut attributes = Attributes::new();
        if let Some(text) = &self.attributes {
            let object = given(text, "--attributes")?;
            let object: Value = serde_json::from_slice(&object).context("--attributes")?;
            let Value::Object(object) = object else {
                bail!("--attributes: it is no JSON object");
            };
            for (name, value) in &object {
                add(&mut attributes, name, value)
                    .with_context(|| format!("--attributes: {name:?}"))?;
            }
        }
        for given in &self.attribute {
            given.add(&mut attributes).context("--attribute")?;
        }
        Ok(attributes)
    }
}

/// Adds an attribute that is said in JSON.
fn add(attributes: &mut Attributes, name: &str, value: &Value) -> anyhow::Result<()> {
    let typed = |object: &serde_json::Map<String, Value>| {
        let field = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| object.get(*name));
            found.and_then(Value::as_str).map(str::to_owned)
        };
        let data_type = field(["Type", "DataType"])?;
        Some((data_type, field(["Value", "StringValue"])?))
    };
    let (data_type, text) = match value {
        Value::String(text) => ("String".to_owned(), text.clone()),
        Value::Number(number) => ("Number".to_owned(), number.to_string()),
        Value::Array(_) => ("String.Array".to_owned(), value.to_string()),
        Value::Object(object) => {
            typed(object).context("write {\"Type\": \"String\", \"Value\": \"text\"}")?
        }
        _ => bail!("an attribute is a text, a number or an array"),
    };
    let (kind, label) = match data_type.split_once('.') {
        Some((kind, label)) => (kind, Some(label)),
        None => (data_type.as_str(), None),
    };
    let value = match kind {
        "String" => AttributeValue::String(&text),
        "Number" => AttributeValue::Number(&text),
        other => bail!("a policy looks at String and Number, not at {other:?}"),
    };
    attributes.insert(Attribute { name, value, label })?;
    Ok(())
}

/// The JSON that a text is, or the text.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn as_json(explained: &Explanation, scope: Scope) -> Value {
    let alternatives = explained.alternatives.iter().map(|clauses| {
        let clauses = clauses.iter().map(|clause| {
            json!({
                "path": clause.path,
                "holds": clause.holds,
                "wanted": parsed(&clause.wanted),
                "found": clause.found.iter().map(|found| parsed(found)).collect::<Value>(),
            })
        });
        clauses.collect::<Value>()
    });
    json!({
        "matches": explained.matches,
        "scope": match scope { Scope::Attributes => "attributes", Scope::Body => "body" },
        "readable": explained.readable,
        "alternatives": alternatives.collect::<Value>(),
    })
}

fn as_text(explained: &Explanation) -> String {
    let mut text = match (explained.matches, explained.readable) {
        (true, _) => "match".to_owned(),
        (false, true) => "no match".to_owned(),
        (false, false) => "no match: the body is no JSON object".to_owned(),
    };
    let count = explained.alternatives.len();
    let clauses = explained.alternatives.iter().flatten();
    let width = clauses.map(|clause| clause.path.len()).max().unwrap_or(0);
    for (index, clauses) in explained.alternatives.iter().enumerate() {
        if count > 1 {
            let _ = write!(text, "\nalternative {} of {count}", index + 1);
        }
        for clause in clauses {
            let holds = if clause.holds { "yes" } else { "no " };
            let found = match &*clause.found {
                [] => "nothing".to_owned(),
                found => found.join(", "),
            };
            let (path, wanted) = (&clause.path, &clause.wanted);
            let _ = write!(
                text,
                "\n  {holds}  {path:width$}  wanted {wanted}  found {found}"
            );
        }
    }
    text
}
