//! docs/format.md against the structures of src/layout: where each field lies, the page says.
//!
//! The structures are read as text and their offsets figured as `repr(C)` lays them out, which the assertions under
//! them prove. A field that is not reserved has to lie in a row of a table of its section, as long as the row says, and
//! rows begin where fields do; or its offset has to stand, in its turn, in the paragraph that tells of the structure. One
//! that is not listed here fails, and so does a word of a control area that no row tells of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How the page tells of a structure.
enum Told {
    /// By rows `| offset | size | … |` of a table in the section with this heading.
    Rows(&'static str),
    /// By offsets, from these words of the section to the end of their paragraph.
    Offsets(&'static str, &'static str),
    /// As a part of another one.
    Inside,
}
use Told::{Inside, Offsets, Rows};

const RING: &str = "## `objects/OBJECT`: a ring";
const QUEUE: &str = "## `objects/OBJECT`: a queue";
const GROWN: &str = "## `objects/.grown-";
const MESSAGE: &str = "## A message";
const STREAM: &str = "## `objects/OBJECT`: a stream";
const SHARD: &str = "## `objects/.shard-";
const TABLE: &str = "## The journals of a stream";
const TOPIC: &str = "## `topics/TOPIC`";
const LOG: &str = "## `topics/.subs-TOPIC-ID`";
const POOL: &str = "## `pool/NNNNN`";
const JOURNAL: &str = "## A journal";
const OF_QUEUE: &str = "### The journal of a queue";

/// Each structure of a file of src/layout, and where the page tells of it.
const STRUCTURES: &[(&str, Told)] = &[
    ("mod::Preamble", Rows("## Preamble")),
    ("bus::BusHeader", Rows("## `bus`")),
    ("bus::ParticipantEntry", Offsets("## `bus`", "Participant:")),
    ("ring::RingHeader", Rows(RING)),
    ("ring::ReaderEntry", Offsets(RING, "reader entries:")),
    ("ring::SlotHeader", Offsets(RING, "Slot: `ctl`")),
    ("ring::ChunkRef", Offsets(RING, "A chunk reference is")),
    ("queue::QueueHeader", Rows(QUEUE)),
    ("queue::GrownHeader", Rows(GROWN)),
    ("attributes::AttributeBlock", Rows(MESSAGE)),
    ("attributes::AttributeEntry", Rows(MESSAGE)),
    (
        "attributes::OriginRecord",
        Offsets(MESSAGE, "system attribute 19"),
    ),
    (
        "dedup::Bucket",
        Offsets(QUEUE, "Bucket of the deduplication table"),
    ),
    (
        "durable::RingEntry",
        Offsets(OF_QUEUE, "a ring begins at *F*"),
    ),
    ("durable::SentId", Offsets(OF_QUEUE, "an id that was sent:")),
    (
        "durable::MessageHead",
        Offsets(OF_QUEUE, "Head of a message"),
    ),
    ("stream::StreamHeader", Rows(STREAM)),
    ("stream::OnDemandHeader", Inside),
    ("stream::GroupEntry", Offsets(STREAM, "Group: `word`")),
    (
        "stream::MemberEntry",
        Offsets(STREAM, "64 members of 16 bytes from 256:"),
    ),
    ("stream::ConsumerCounts", Inside),
    ("stream::WishEntry", Offsets(STREAM, "Wish: `kind`")),
    ("stream::ShardEntry", Offsets(STREAM, "Shard: `word`")),
    ("stream::RecordHead", Offsets(SHARD, "A record is")),
    ("stream::SubHead", Offsets(SHARD, "records of users, each")),
    ("stream::TableHead", Offsets(TABLE, "A table: shards")),
    ("stream::KeptGroup", Offsets(TABLE, "groups of\n160 bytes:")),
    (
        "stream::KeptCheckpoint",
        Offsets(TABLE, "checkpoints of 16 bytes:"),
    ),
    ("topic::TopicHeader", Rows(TOPIC)),
    ("topic::LogHeader", Offsets(LOG, "A page with the preamble")),
    ("topic::RecordHead", Rows(LOG)),
    ("topic::MessageHead", Offsets(LOG, "magic `RWT1`")),
    ("pool::SegmentHeader", Offsets(POOL, "`chunk_bytes`")),
    ("pool::ChunkEntry", Offsets(POOL, "one entry\nof 32 bytes")),
    ("journal::SegmentHeader", Rows(JOURNAL)),
    ("journal::Encryption", Inside),
    ("journal::BlockHeader", Rows(JOURNAL)),
    ("journal::EntryHead", Rows(JOURNAL)),
    ("journal::Footer", Offsets(JOURNAL, "The footer is written")),
];

/// The control areas, and the sections that tell of their words.
const CONTROLS: &[(&str, &[&str])] = &[
    ("ring", &[RING]),
    ("queue", &[QUEUE, GROWN]),
    ("durable", &[QUEUE]),
    ("stream", &[STREAM]),
    ("topic", &[TOPIC]),
];

/// A field, from its first byte on.
#[derive(Clone, Debug)]
struct Field {
    name: String,
    at: usize,
    bytes: usize,
}

impl Field {
    fn is_reserved(&self) -> bool {
        let last = self.name.rsplit('.').next().unwrap_or_default();
        last.starts_with("reserved") || last == "more"
    }
}

/// The sources of src/layout: constants and structures by `file::name`.
struct Layout {
    constants: BTreeMap<String, String>,
    structures: BTreeMap<String, Vec<(String, String)>>,
    /// What a module `control` or `words` says of words, and where, by file.
    words: BTreeMap<String, Vec<(String, String)>>,
}

fn text(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// `queue` of `src/layout/queue.rs`, `word` of `src/layout/word/stream.rs`.
fn file_of(path: &str) -> &str {
    let inside = path.trim_start_matches("src/layout/");
    inside.split(['/', '.']).next().unwrap_or_default()
}

impl Layout {
    fn read() -> Self {
        let mut layout = Self {
            constants: BTreeMap::new(),
            structures: BTreeMap::new(),
            words: BTreeMap::new(),
        };
        let mut open = vec!["src/layout".to_owned()];
        while let Some(directory) = open.pop() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&directory);
            for entry in std::fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                let path = format!("{directory}/{name}");
                match entry.path().is_dir() {
                    true => open.push(path),
                    // Words of one file that has others beside it are that one's.
                    false => layout.take(file_of(&path), &text(&path)),
                }
            }
        }
        layout
    }

    fn take(&mut self, file: &str, source: &str) {
        let code = source
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default());
        let code = code.collect::<Vec<_>>().join("\n");
        for (index, _) in code.match_indices("pub const ") {
            let rest = &code[index + "pub const ".len()..];
            let Some((declared, value)) = rest
                .split_once(';')
                .and_then(|(all, _)| all.split_once('='))
            else {
                continue;
            };
            let Some((name, _)) = declared.split_once(':') else {
                continue;
            };
            if name
                .chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            {
                let name = format!("{file}::{name}");
                // Of two of a name the first counts: that of a module stands behind the file's own.
                self.constants
                    .entry(name.clone())
                    .or_insert_with(|| value.trim().to_owned());
                let module = code[..index].rfind("pub mod ").map(|at| &code[at..index]);
                let is_of_words = module.is_some_and(|module| {
                    let begins = |name: &str| module.starts_with(&format!("pub mod {name} {{"));
                    (begins("control") || begins("words")) && !module.contains("\n}")
                });
                if is_of_words {
                    let words = self.words.entry(file.to_owned()).or_default();
                    words.push((name, value.trim().to_owned()));
                }
            }
        }
        for (index, _) in code.match_indices("#[repr(C)]") {
            let (head, rest) = code[index..].split_once('{').unwrap();
            let name = head.split_whitespace().last().unwrap();
            let body = rest.split("\n}").next().unwrap().replace('\n', " ");
            let fields = body.split("pub ").skip(1).map(|field| {
                let (name, kind) = field.split_once(':').unwrap();
                (
                    name.trim().to_owned(),
                    kind.trim().trim_end_matches(',').trim().to_owned(),
                )
            });
            self.structures
                .insert(format!("{file}::{name}"), fields.collect());
        }
    }

    /// What `name` is in `file`, else in whatever file has it.
    fn find<'a, T>(
        all: &'a BTreeMap<String, T>,
        file: &str,
        name: &str,
    ) -> Option<(&'a str, &'a T)> {
        let own = all.get_key_value(&format!("{file}::{name}"));
        let end = format!("::{name}");
        let found = own.or_else(|| all.iter().find(|(key, _)| key.ends_with(&end)));
        found.map(|(key, value)| (key.split("::").next().unwrap_or_default(), value))
    }

    /// The value of an expression of sums, products, shifts, constants and `size_of`.
    fn value(&self, file: &str, expression: &str) -> usize {
        let expression = expression.replace(" as usize", "").replace(" as u64", "");
        let bare = expression.trim();
        for (operator, is_left) in [("<<", true), (" - ", true), (" + ", true), (" * ", true)] {
            let mut depth = 0usize;
            let mut at = None;
            for (index, c) in bare.char_indices() {
                match c {
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ if depth == 0 && bare[index..].starts_with(operator) && is_left => {
                        at = Some(index)
                    }
                    _ => {}
                }
            }
            if let Some(at) = at {
                let left = self.value(file, &bare[..at]);
                let right = self.value(file, &bare[at + operator.len()..]);
                return match operator.trim() {
                    "<<" => left << right,
                    "-" => left - right,
                    "+" => left + right,
                    _ => left * right,
                };
            }
        }
        if let Some(name) = bare.strip_prefix("size_of::<") {
            return self.size(file, name.split('>').next().unwrap()).0;
        }
        if let Some(inner) = bare.strip_prefix('(') {
            return self.value(file, inner.strip_suffix(')').unwrap());
        }
        if let Ok(number) = bare.replace('_', "").parse() {
            return number;
        }
        let path: Vec<_> = bare.split("::").filter(|part| *part != "super").collect();
        let (name, of) = (
            path[path.len() - 1],
            path.len().checked_sub(2).map_or(file, |at| path[at]),
        );
        let (file, value) =
            Self::find(&self.constants, of, name).unwrap_or_else(|| panic!("{file}: {bare}"));
        self.value(file, value)
    }

    /// Bytes and alignment of a type.
    fn size(&self, file: &str, kind: &str) -> (usize, usize) {
        match kind {
            "u8" => (1, 1),
            "u16" => (2, 2),
            "u32" => (4, 4),
            "u64" => (8, 8),
            _ => match kind
                .strip_prefix('[')
                .and_then(|kind| kind.strip_suffix(']'))
            {
                Some(array) => {
                    let (of, many) = array.rsplit_once(';').unwrap();
                    let (bytes, alignment) = self.size(file, of.trim());
                    (bytes * self.value(file, many), alignment)
                }
                None => {
                    let fields = self.fields(file, kind, false);
                    let end = fields.last().map_or(0, |last| last.at + last.bytes);
                    // Padding is explicit in all of them, and none is aligned to more than a word.
                    (end, if end.is_multiple_of(8) { 8 } else { 4 })
                }
            },
        }
    }

    /// The fields of a structure; those of one inside in its place if `flat`.
    fn fields(&self, file: &str, name: &str, flat: bool) -> Vec<Field> {
        let found = Self::find(&self.structures, file, name);
        let (file, declared) = found.unwrap_or_else(|| panic!("no structure {name}"));
        let (mut at, mut fields) = (0usize, Vec::new());
        for (name, kind) in declared {
            let (bytes, alignment) = self.size(file, kind);
            assert_eq!(at % alignment, 0, "{name} is padded for");
            let inner = match flat && kind != "Preamble" && !kind.starts_with(['[', 'u']) {
                true => self.fields(file, kind, true),
                false => Vec::new(),
            };
            if inner.is_empty() {
                fields.push(Field {
                    name: name.clone(),
                    at,
                    bytes,
                });
            }
            fields.extend(inner.into_iter().map(|field| Field {
                name: format!("{name}.{}", field.name),
                at: at + field.at,
                bytes: field.bytes,
            }));
            at += bytes;
        }
        fields
    }
}

/// From a heading to the next of its rank or above.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let at = page
        .find(&format!("\n{heading}"))
        .unwrap_or_else(|| panic!("no section {heading}"));
    let rank = heading.split(' ').next().unwrap();
    let rest = &page[at + 1 + rank.len()..];
    let ends = ["\n## ", "\n### "]
        .into_iter()
        .filter(|end| end.len() <= rank.len() + 2);
    let end = ends
        .filter_map(|end| rest.find(end))
        .min()
        .unwrap_or(rest.len());
    &rest[..end]
}

/// `8`, `4 + 4`, `8 × 4`, `8 + 8 × 10`: their bytes, or none where it is no number.
fn bytes(size: &str) -> Option<usize> {
    let product = |product: &str| {
        let factors = product
            .split('×')
            .map(|factor| factor.trim().replace(',', "").parse::<usize>());
        factors
            .collect::<Result<Vec<_>, _>>()
            .ok()
            .map(|factors| factors.iter().product::<usize>())
    };
    size.split('+').map(product).sum()
}

/// The tables of a section: of each row where it begins, and how long it is.
fn tables(section: &str) -> Vec<Vec<(usize, Option<usize>)>> {
    let mut found = vec![Vec::new()];
    for line in section.lines() {
        let Some(row) = line.strip_prefix("| ") else {
            found.push(Vec::new());
            continue;
        };
        let mut cells = row.split(" | ");
        let (first, second) = (
            cells.next().unwrap_or_default(),
            cells.next().unwrap_or_default(),
        );
        let offsets = first
            .split(", ")
            .map(|offset| offset.trim().parse::<usize>());
        let offsets: Vec<_> = offsets.flatten().collect();
        let sizes: Vec<_> = second.split(", ").collect();
        for (index, offset) in offsets.iter().enumerate() {
            let size = sizes.get(index).or(sizes.first());
            found
                .last_mut()
                .unwrap()
                .push((*offset, size.and_then(|size| bytes(size))));
        }
    }
    found.retain(|table| !table.is_empty());
    found
}

/// What a table does not tell of these fields, or tells otherwise.
fn wrong_in(table: &[(usize, Option<usize>)], fields: &[Field]) -> Vec<String> {
    let mut wrong = Vec::new();
    for field in fields
        .iter()
        .filter(|field| !field.is_reserved() && field.name != "preamble")
    {
        let end = field.at + field.bytes;
        let is_told = table
            .iter()
            .any(|(at, bytes)| *at <= field.at && bytes.is_some_and(|bytes| end <= at + bytes));
        if !is_told {
            wrong.push(format!(
                "{} {}, {} bytes",
                field.name, field.at, field.bytes
            ));
        }
    }
    let end = fields.last().map_or(0, |last| last.at + last.bytes);
    let starts: BTreeSet<_> = fields.iter().map(|field| field.at).collect();
    // What lies in reserved bytes are words beside the structure.
    let is_beside = |at: usize| {
        let mut reserved = fields.iter().filter(|field| field.is_reserved());
        reserved.any(|field| (field.at..field.at + field.bytes).contains(&at))
    };
    let stray = table
        .iter()
        .filter(|(at, _)| *at < end && !starts.contains(at) && !is_beside(*at));
    wrong.extend(stray.map(|(at, _)| format!("no field begins at {at}")));
    wrong
}

/// The first offset that does not stand, in its turn, in a paragraph.
fn missing_in(paragraph: &str, fields: &[Field]) -> Option<String> {
    let numbers = paragraph.split(|c: char| !c.is_ascii_alphanumeric() && c != '[' && c != '₀');
    let mut numbers = numbers.filter_map(|word| word.parse::<usize>().ok());
    let told = fields
        .iter()
        .filter(|field| !field.is_reserved() && field.name != "preamble");
    for field in told {
        if !numbers.any(|number| number == field.at) {
            return Some(format!("{} {}", field.name, field.at));
        }
    }
    None
}

#[test]
fn the_page_says_where_each_field_of_every_structure_lies() {
    let (layout, page) = (Layout::read(), text("docs/format.md"));
    let listed: BTreeSet<_> = STRUCTURES
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let written: BTreeSet<_> = layout.structures.keys().cloned().collect();
    assert_eq!(listed, written, "structures here, and in src/layout");
    let mut wrong = Vec::new();
    for (path, told) in STRUCTURES {
        let (file, name) = path.split_once("::").unwrap();
        match told {
            Inside => {}
            Rows(heading) => {
                let fields = layout.fields(file, name, true);
                let tables = tables(section(&page, heading));
                let each = tables.iter().map(|table| wrong_in(table, &fields));
                let best = each.min_by_key(Vec::len).expect("a table");
                wrong.extend(best.iter().map(|what| format!("{path}: {what}")));
            }
            Offsets(heading, words) => {
                let section = section(&page, heading);
                let from = section
                    .find(words)
                    .unwrap_or_else(|| panic!("{path}: no {words:?}"));
                let rest = &section[from + words.len()..];
                // What the words themselves say counts too.
                let paragraph = rest.split("\n\n").next().unwrap_or_default();
                let paragraph = format!(
                    "{words}{}",
                    paragraph.split("\n|").next().unwrap_or_default()
                );
                let missing = missing_in(&paragraph, &layout.fields(file, name, false));
                wrong.extend(missing.map(|what| format!("{path}: {what}")));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/format.md does not tell: {wrong:#?}");
}

#[test]
fn the_page_has_a_row_for_each_word_of_a_control_area() {
    let (layout, page) = (Layout::read(), text("docs/format.md"));
    let (mut wrong, mut words) = (Vec::new(), 0);
    for (file, headings) in CONTROLS {
        let tables = headings
            .iter()
            .flat_map(|heading| tables(section(&page, heading)));
        let rows: Vec<_> = tables.flatten().collect();
        for (name, at) in &layout.words[*file] {
            // The end of the area, and how many words there are.
            if name.ends_with("::END") || name.ends_with("::HOLDER_WORDS") {
                continue;
            }
            words += 1;
            let at = layout.value(file, at);
            let mut rows = rows.iter();
            if !rows.any(|(from, bytes)| *from <= at && at < from + bytes.unwrap_or(1)) {
                wrong.push(format!("{name} {at}"));
            }
        }
    }
    assert!(words > 70, "{words} words were found");
    assert!(wrong.is_empty(), "docs/format.md does not tell: {wrong:#?}");
}

#[test]
fn a_page_that_says_it_otherwise_is_seen() {
    let field = |name: &str, at, bytes| Field {
        name: name.to_owned(),
        at,
        bytes,
    };
    let fields = [
        field("slots", 64, 8),
        field("stride", 72, 4),
        field("reserved", 76, 4),
        field("end", 80, 8),
    ];
    let table = |text: &str| tables(text).remove(0);
    let right = table(
        "| offset | size | |\n|---|---|---|\n| 64 | 8 | a |\n| 72 | 4 | b |\n| 80 | 4 + 4 | c |",
    );
    assert_eq!(wrong_in(&right, &fields), [""; 0]);
    let late = table("| 64 | 8 | a |\n| 74 | 4 | b |\n| 80 | 8 | c |");
    assert_eq!(
        wrong_in(&late, &fields),
        ["stride 72, 4 bytes", "no field begins at 74"]
    );
    assert_eq!(missing_in("slots 64, stride 72, end 80", &fields), None);
    assert_eq!(
        missing_in("slots 64, stride 76, end 80", &fields).as_deref(),
        Some("stride 72")
    );
    assert_eq!(bytes("8 + 8 × 10"), Some(88));
    assert_eq!(bytes("8 × slots"), None);
}
