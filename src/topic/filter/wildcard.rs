//! Patterns with `*`, each of which stands for any number of characters, none included.
//!
//! `\*` and `\\` are the characters themselves. Two stars in a row and any other escape are refused, as
//! in SNS. A pattern is kept as the literals between its stars; matching is linear in the text for
//! each literal, and never goes back.

/// Literals in order; between each two of them, anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pattern {
    literals: Box<[Box<str>]>,
}

/// The part of a pattern by which an index finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landmark<'a> {
    /// No star: the text itself.
    Whole(&'a str),
    Prefix(&'a str),
    Suffix(&'a str),
    /// Somewhere in the text.
    Inside(&'a str),
    /// The pattern is a star: any text.
    Nowhere,
}

impl Pattern {
    /// Parses a pattern; else what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut literals = vec![String::new()];
        let mut after_star = false;
        let mut characters = text.chars().enumerate();
        while let Some((position, character)) = characters.next() {
            let last = literals.last_mut().expect("there is always one");
            match character {
                '*' if after_star => {
                    return Err(format!("Consecutive wildcard characters at pos {position}"));
                }
                '*' => literals.push(String::new()),
                '\\' => match characters.next() {
                    Some((_, escaped @ ('*' | '\\'))) => last.push(escaped),
                    _ => return Err(format!("Invalid escape character at pos {position}")),
                },
                _ => last.push(character),
            }
            after_star = character == '*';
        }
        let literals = literals.into_iter().map(String::into_boxed_str).collect();
        Ok(Self { literals })
    }

    pub fn stars(&self) -> usize {
        self.literals.len() - 1
    }

    pub fn matches(&self, text: &str) -> bool {
        let [first, between @ ..] = &*self.literals else {
            return false;
        };
        let Some(mut rest) = text.strip_prefix(&**first) else {
            return false;
        };
        let Some((last, between)) = between.split_last() else {
            return rest.is_empty();
        };
        for literal in between {
            // The first place will do: what is behind it can only become more.
            match rest.find(&**literal) {
                Some(at) => rest = &rest[at + literal.len()..],
                None => return false,
            }
        }
        rest.ends_with(&**last)
    }

    pub fn landmark(&self) -> Landmark<'_> {
        let (first, last) = (&*self.literals[0], &*self.literals[self.stars()]);
        let inside = self.literals.iter().max_by_key(|literal| literal.len());
        match inside {
            _ if self.stars() == 0 => Landmark::Whole(first),
            _ if !first.is_empty() => Landmark::Prefix(first),
            _ if !last.is_empty() => Landmark::Suffix(last),
            Some(longest) if !longest.is_empty() => Landmark::Inside(longest),
            _ => Landmark::Nowhere,
        }
    }
}

impl core::fmt::Display for Pattern {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (index, literal) in self.literals.iter().enumerate() {
            let star = if index > 0 { "*" } else { "" };
            let literal = literal.replace('\\', "\\\\").replace('*', "\\*");
            write!(f, "{star}{literal}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_and_an_escaped_one_for_itself() {
        for (pattern, yes, no) in [
            ("*ball", "football", "balloon"),
            ("base*", "base", "abase"),
            ("a*b*c", "a1b2b3c", "acb"),
            ("a*a", "aa", "a"),
            ("*a*", "xay", "xyz"),
            ("\\*", "*", "x"),
            ("a\\\\*", "a\\b", "ab"),
            ("", "", "x"),
            ("ü*ß", "üß", "ü"),
            ("*ab", "aab", "aba"),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert!(parsed.matches(yes) && !parsed.matches(no), "{pattern}");
            assert_eq!(Pattern::parse(&parsed.to_string()).unwrap(), parsed);
        }
        assert!(Pattern::parse("*").unwrap().matches(""));
        for wrong in ["a**b", "a\\b", "a\\"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
