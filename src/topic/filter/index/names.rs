//! The dictionary: what policies ask for, path by path, each with a number of its own.
//!
//! A *term* is a condition that a value can be looked up by: an equal text, a prefix of one of the
//! lengths that are asked for, an address block of one of the sizes, three bytes somewhere inside. Terms
//! are counted, and gone when no clause uses them. A look-up that finds nothing mostly ends in the
//! control bytes of a hash table, which are one byte for each term. Keys come from messages, so their
//! hashes are keyed.

use super::super::cidr::{Address, Block};
use super::super::condition::Condition;
use super::super::leaf::Leaf;
use super::super::number::Decimal;
use super::super::walk::{PathUse, Paths};
use super::super::wildcard::Landmark;
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Bytes of a literal inside of a wildcard by which it is looked up, at most.
const GRAM: usize = 3;

/// The number of a term, and by how many clauses it is used.
#[derive(Clone, Copy, Debug)]
struct Term {
    number: u32,
    uses: u32,
}

#[derive(Clone, Debug)]
struct Terms<K>(HashMap<K, Term>);

impl<K> Default for Terms<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq> Terms<K> {
    fn find<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).map(|term| term.number)
    }

    fn add(&mut self, key: K, numbers: &mut Numbers) -> u32 {
        let term = self.0.entry(key).or_insert_with(|| Term {
            number: numbers.give(),
            uses: 0,
        });
        term.uses += 1;
        term.number
    }

    /// One use less.
    fn drop_use<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, numbers: &mut Numbers)
    where
        K: Borrow<Q>,
    {
        let term = self.0.get_mut(key).expect("a clause uses it");
        term.uses -= 1;
        if term.uses == 0 {
            numbers.free.push(term.number);
            self.0.remove(key);
        }
    }

    fn count(&self) -> usize {
        self.0.len()
    }
}

/// How many uses there are of each length.
#[derive(Clone, Debug)]
struct Lengths<L>(BTreeMap<L, u32>);

impl<L> Default for Lengths<L> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<L: Ord + Copy> Lengths<L> {
    fn add(&mut self, length: L) {
        *self.0.entry(length).or_default() += 1;
    }

    fn drop_use(&mut self, length: L) {
        let uses = self.0.get_mut(&length).expect("a clause uses it");
        *uses -= 1;
        if *uses == 0 {
            self.0.remove(&length);
        }
    }

    fn all(&self) -> impl Iterator<Item = L> + '_ {
        self.0.keys().copied()
    }
}

/// Numbers of terms, given out again when they are free.
#[derive(Clone, Debug, Default)]
struct Numbers {
    next: u32,
    free: Vec<u32>,
}

impl Numbers {
    fn give(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

/// What is asked for at one path.
#[derive(Clone, Debug, Default)]
struct Asked {
    texts: Terms<Box<str>>,
    numbers: Terms<i64>,
    /// False, true, null, anything, any text: by their place.
    words: Terms<Word>,
    patterns: Option<Box<Patterns>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Word {
    False,
    True,
    Null,
    Something,
    AnyText,
}

#[derive(Clone, Debug, Default)]
struct Patterns {
    prefixes: Terms<Box<[u8]>>,
    prefix_lengths: Lengths<usize>,
    suffixes: Terms<Box<[u8]>>,
    suffix_lengths: Lengths<usize>,
    lower: Terms<Box<str>>,
    blocks: Terms<Block>,
    block_sizes: Lengths<(bool, u8)>,
    /// The first bytes of a literal, and how many.
    grams: Terms<[u8; GRAM + 1]>,
    gram_lengths: Lengths<usize>,
}

/// What a condition is looked up by.
enum Key<'a> {
    Text(&'a str),
    Number(Decimal),
    Word(Word),
    Prefix(&'a [u8]),
    Suffix(&'a [u8]),
    Lower(&'a str),
    Block(Block),
    Gram(&'a [u8]),
}

impl<'a> Key<'a> {
    /// None for what is kept in the nodes.
    fn of(condition: &'a Condition) -> Option<Self> {
        Some(match condition {
            Condition::Text(text) => Self::Text(text),
            Condition::Number(number) => Self::Number(*number),
            Condition::Bool(false) => Self::Word(Word::False),
            Condition::Bool(true) => Self::Word(Word::True),
            Condition::Null => Self::Word(Word::Null),
            Condition::Exists => Self::Word(Word::Something),
            Condition::Prefix(text) => Self::Prefix(text.as_bytes()),
            Condition::Suffix(text) => Self::Suffix(text.as_bytes()),
            Condition::IgnoreCase(text) => Self::Lower(text),
            Condition::Cidr(block) => Self::Block(*block),
            Condition::Wildcard(pattern) => match pattern.landmark() {
                Landmark::Whole(text) => Self::Text(text),
                Landmark::Prefix(text) => Self::Prefix(text.as_bytes()),
                Landmark::Suffix(text) => Self::Suffix(text.as_bytes()),
                Landmark::Inside(text) => Self::Gram(&text.as_bytes()[..text.len().min(GRAM)]),
                Landmark::Nowhere => Self::Word(Word::AnyText),
            },
            Condition::Range(..) | Condition::Absent | Condition::AnythingBut(_) => return None,
        })
    }
}

/// The bytes with their length, in an array.
fn gram(bytes: &[u8]) -> [u8; GRAM + 1] {
    let mut gram = [0; GRAM + 1];
    gram[..bytes.len()].copy_from_slice(bytes);
    gram[GRAM] = bytes.len() as u8;
    gram
}

fn block_size(block: &Block) -> (bool, u8) {
    (block.first.is_v6(), block.prefix_bits)
}

impl Asked {
    fn add(&mut self, key: Key<'_>, numbers: &mut Numbers) -> u32 {
        match key {
            Key::Text(text) => self.texts.add(text.into(), numbers),
            Key::Number(number) => self.numbers.add(number.0, numbers),
            Key::Word(word) => self.words.add(word, numbers),
            pattern => self.patterns.get_or_insert_default().add(pattern, numbers),
        }
    }

    /// The term of a key that some clause uses.
    fn find(&self, key: Key<'_>) -> Option<u32> {
        match key {
            Key::Text(text) => self.texts.find(text),
            Key::Number(number) => self.numbers.find(&number.0),
            Key::Word(word) => self.words.find(&word),
            pattern => self.patterns.as_ref()?.find(pattern),
        }
    }

    fn drop_use(&mut self, key: Key<'_>, numbers: &mut Numbers) {
        match key {
            Key::Text(text) => self.texts.drop_use(text, numbers),
            Key::Number(number) => self.numbers.drop_use(&number.0, numbers),
            Key::Word(word) => self.words.drop_use(&word, numbers),
            pattern => {
                let patterns = self.patterns.as_mut().expect("a clause uses one");
                patterns.drop_use(pattern, numbers);
                if patterns.is_empty() {
                    self.patterns = None;
                }
            }
        }
    }

    /// Which part of all messages fulfils a condition, roughly: what is one of many is rare.
    fn share(&self, condition: &Condition) -> f64 {
        let one_of = |count: usize| 1.0 / (1.0 + count as f64);
        let patterns = self.patterns.as_deref();
        let of = |count: fn(&Patterns) -> usize| one_of(patterns.map_or(0, count));
        match Key::of(condition) {
            Some(Key::Text(_)) => one_of(self.texts.count()),
            Some(Key::Number(_)) => one_of(self.numbers.count()),
            Some(Key::Prefix(_)) => of(|p| p.prefixes.count()),
            Some(Key::Suffix(_)) => of(|p| p.suffixes.count()),
            Some(Key::Lower(_)) => of(|p| p.lower.count()),
            Some(Key::Block(_)) => of(|p| p.blocks.count()),
            Some(Key::Gram(_)) => of(|p| p.grams.count()),
            Some(Key::Word(Word::False | Word::True | Word::Null)) => 0.5,
            Some(Key::Word(_)) => 1.0,
            // Behind everything that is looked up.
            None => match condition {
                Condition::Range(..) => 2.0,
                _ => 4.0,
            },
        }
    }

    fn terms(&self, leaf: &Leaf<'_>, mut found: impl FnMut(u32)) {
        let mut tell = |number: Option<u32>| {
            if let Some(number) = number {
                found(number);
            }
        };
        if self.words.count() > 0 {
            if leaf.is_something() {
                tell(self.words.find(&Word::Something));
            }
            tell(match leaf {
                Leaf::Bool(false) => self.words.find(&Word::False),
                Leaf::Bool(true) => self.words.find(&Word::True),
                Leaf::Null => self.words.find(&Word::Null),
                Leaf::Text(_) => self.words.find(&Word::AnyText),
                Leaf::Number(_) => None,
            });
        }
        if let Some(number) = leaf.number() {
            tell(self.numbers.find(&number.0));
        }
        let Some(text) = leaf.text() else {
            return;
        };
        if self.texts.count() > 0 {
            tell(self.texts.find(text));
        }
        if let Some(patterns) = &self.patterns {
            patterns.terms(text, tell);
        }
    }
}

impl Patterns {
    fn add(&mut self, key: Key<'_>, numbers: &mut Numbers) -> u32 {
        match key {
            Key::Prefix(bytes) => {
                self.prefix_lengths.add(bytes.len());
                self.prefixes.add(bytes.into(), numbers)
            }
            Key::Suffix(bytes) => {
                self.suffix_lengths.add(bytes.len());
                self.suffixes.add(bytes.into(), numbers)
            }
            Key::Lower(text) => self.lower.add(text.into(), numbers),
            Key::Block(block) => {
                self.block_sizes.add(block_size(&block));
                self.blocks.add(block, numbers)
            }
            Key::Gram(bytes) => {
                self.gram_lengths.add(bytes.len());
                self.grams.add(gram(bytes), numbers)
            }
            Key::Text(_) | Key::Number(_) | Key::Word(_) => unreachable!("no pattern"),
        }
    }

    fn find(&self, key: Key<'_>) -> Option<u32> {
        match key {
            Key::Prefix(bytes) => self.prefixes.find(bytes),
            Key::Suffix(bytes) => self.suffixes.find(bytes),
            Key::Lower(text) => self.lower.find(text),
            Key::Block(block) => self.blocks.find(&block),
            Key::Gram(bytes) => self.grams.find(&gram(bytes)),
            Key::Text(_) | Key::Number(_) | Key::Word(_) => None,
        }
    }

    fn drop_use(&mut self, key: Key<'_>, numbers: &mut Numbers) {
        match key {
            Key::Prefix(bytes) => {
                self.prefix_lengths.drop_use(bytes.len());
                self.prefixes.drop_use(bytes, numbers);
            }
            Key::Suffix(bytes) => {
                self.suffix_lengths.drop_use(bytes.len());
                self.suffixes.drop_use(bytes, numbers);
            }
            Key::Lower(text) => self.lower.drop_use(text, numbers),
            Key::Block(block) => {
                self.block_sizes.drop_use(block_size(&block));
                self.blocks.drop_use(&block, numbers);
            }
            Key::Gram(bytes) => {
                self.gram_lengths.drop_use(bytes.len());
                self.grams.drop_use(&gram(bytes), numbers);
            }
            Key::Text(_) | Key::Number(_) | Key::Word(_) => unreachable!("no pattern"),
        }
    }

    fn terms(&self, text: &str, mut tell: impl FnMut(Option<u32>)) {
        let bytes = text.as_bytes();
        for length in self.prefix_lengths.all().take_while(|l| *l <= bytes.len()) {
            tell(self.prefixes.find(&bytes[..length]));
        }
        for length in self.suffix_lengths.all().take_while(|l| *l <= bytes.len()) {
            tell(self.suffixes.find(&bytes[bytes.len() - length..]));
        }
        if self.lower.count() > 0 {
            tell(self.lower.find(text.to_lowercase().as_str()));
        }
        if self.blocks.count() > 0
            && let Some(address) = Address::parse(text)
        {
            let sizes = self.block_sizes.all();
            for (_, bits) in sizes.filter(|(is_v6, _)| *is_v6 == address.is_v6()) {
                tell(self.blocks.find(&address.block(bits)));
            }
        }
        for length in self.gram_lengths.all() {
            for window in bytes.windows(length) {
                tell(self.grams.find(&gram(window)));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.prefixes.count() + self.suffixes.count() + self.lower.count() == 0
            && self.blocks.count() + self.grams.count() == 0
    }
}

/// A path that clauses ask for, or that such a path begins with.
#[derive(Clone, Debug, Default)]
struct PathEntry {
    path: Box<str>,
    clauses: u32,
    below: u32,
    asked: Asked,
}

/// All paths and their terms.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    by_path: HashMap<Box<str>, u32>,
    paths: Vec<PathEntry>,
    free: Vec<u32>,
    numbers: Numbers,
}

/// Where the paths end that a path begins with.
fn ends_above(path: &str) -> impl Iterator<Item = usize> + '_ {
    path.bytes()
        .enumerate()
        .filter(|(_, byte)| *byte == b'.')
        .map(|(at, _)| at)
}

impl Names {
    /// The number of a path for one more clause.
    pub fn add_path(&mut self, path: &str) -> u32 {
        for end in ends_above(path) {
            let above = self.entry(&path[..end]);
            self.paths[above as usize].below += 1;
        }
        let number = self.entry(path);
        self.paths[number as usize].clauses += 1;
        number
    }

    /// One clause less.
    pub fn drop_path(&mut self, number: u32) {
        let entry = &mut self.paths[number as usize];
        entry.clauses -= 1;
        let path = entry.path.clone();
        self.free_unused(number);
        for end in ends_above(&path) {
            let above = self.by_path[&path[..end]];
            self.paths[above as usize].below -= 1;
            self.free_unused(above);
        }
    }

    /// The path of a number.
    pub fn path(&self, number: u32) -> &str {
        &self.paths[number as usize].path
    }

    fn entry(&mut self, path: &str) -> u32 {
        if let Some(number) = self.by_path.get(path) {
            return *number;
        }
        let entry = PathEntry {
            path: path.into(),
            ..PathEntry::default()
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.paths[number as usize] = entry;
                number
            }
            None => {
                self.paths.push(entry);
                self.paths.len() as u32 - 1
            }
        };
        self.by_path.insert(path.into(), number);
        number
    }

    fn free_unused(&mut self, number: u32) {
        let entry = &mut self.paths[number as usize];
        if entry.clauses == 0 && entry.below == 0 {
            self.by_path.remove(&*entry.path);
            *entry = PathEntry::default();
            self.free.push(number);
        }
    }

    /// Whether nothing is left of any policy.
    pub fn is_fresh(&self) -> bool {
        self.by_path.is_empty()
            && self.free.len() == self.paths.len()
            && self.numbers.free.len() == self.numbers.next as usize
    }

    /// The term of a condition for one more clause; none if it is kept in the node.
    pub fn add_term(&mut self, path: u32, condition: &Condition) -> Option<u32> {
        let key = Key::of(condition)?;
        let asked = &mut self.paths[path as usize].asked;
        Some(asked.add(key, &mut self.numbers))
    }

    /// One clause less.
    pub fn drop_term(&mut self, path: u32, condition: &Condition) {
        let asked = &mut self.paths[path as usize].asked;
        if let Some(key) = Key::of(condition) {
            asked.drop_use(key, &mut self.numbers);
        }
    }

    /// The term of a condition that some clause has.
    pub fn term(&self, path: u32, condition: &Condition) -> Option<u32> {
        self.paths[path as usize].asked.find(Key::of(condition)?)
    }

    /// Which part of all messages fulfils one of these, roughly, at most 1.
    pub fn share(&self, path: &str, conditions: &[Condition]) -> f64 {
        let unasked = Asked::default();
        let number = self.by_path.get(path);
        let asked = number.map_or(&unasked, |number| &self.paths[*number as usize].asked);
        conditions
            .iter()
            .map(|condition| asked.share(condition))
            .sum()
    }

    /// The terms that a value at a path fulfils.
    pub fn terms(&self, path: u32, leaf: &Leaf<'_>, found: impl FnMut(u32)) {
        self.paths[path as usize].asked.terms(leaf, found);
    }
}

impl Paths for Names {
    fn find(&self, path: &str) -> PathUse {
        let Some(number) = self.by_path.get(path) else {
            return PathUse::default();
        };
        let entry = &self.paths[*number as usize];
        PathUse {
            number: (entry.clauses > 0).then_some(*number),
            is_above: entry.below > 0,
        }
    }
}
