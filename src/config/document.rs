//! The file and the environment as they were given: values by key path, and a record of every mistake and of every key
//! that was asked for. What is left over when all sections were read is unknown.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::load::ENVIRONMENT_PREFIX;
use super::mistake::Mistake;
use super::spelling::nearest;

/// Longest value shown in a message, in characters.
const MAX_SHOWN: usize = 80;

/// A type that a value can have.
pub(super) trait Setting: Sized {
    /// Completes "must be …".
    const EXPECTED: &'static str;
    /// The value as this type; `None` when it has another.
    fn from_value(value: &Value) -> Option<Self>;
}

impl Setting for Value {
    const EXPECTED: &'static str = "a value";
    fn from_value(value: &Value) -> Option<Self> {
        Some(value.clone())
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "a string";
    fn from_value(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_value(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Setting for i64 {
    const EXPECTED: &'static str = "a whole number";
    fn from_value(value: &Value) -> Option<Self> {
        value.as_integer()
    }
}

impl Setting for Table {
    const EXPECTED: &'static str = "a table";
    fn from_value(value: &Value) -> Option<Self> {
        value.as_table().cloned()
    }
}

impl Setting for Vec<String> {
    const EXPECTED: &'static str = "a list of strings";
    fn from_value(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(String::from_value).collect()
    }
}

impl Setting for Vec<Table> {
    const EXPECTED: &'static str = "a list of tables";
    fn from_value(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(Table::from_value).collect()
    }
}

/// Whether messages may show a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// Yes.
    Value,
    /// No: people paste secrets where their names belong.
    Redacted,
}

/// The file and the environment.
#[derive(Debug)]
pub(super) struct Document {
    table: Table,
    variables: BTreeMap<String, String>,
    mistakes: Vec<Mistake>,
    known: BTreeSet<String>,
    unknown: Vec<(String, String)>,
}

impl Document {
    /// `variables` are those with our prefix, by their whole names.
    pub(super) fn new(table: Table, variables: BTreeMap<String, String>, mistakes: Vec<Mistake>) -> Self {
        Self { table, variables, mistakes, known: BTreeSet::new(), unknown: Vec::new() }
    }

    /// A top-level section, empty when it is not there. End it with [`Section::finish`].
    pub(super) fn section(&mut self, name: &str) -> Section<'_> {
        let value = self.table.remove(name);
        self.open(name.to_owned(), value)
    }

    /// The part at `path`, whose value was taken out of its parent.
    fn open(&mut self, path: String, value: Option<Value>) -> Section<'_> {
        let table = match value {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                let show = if ["auth", "adspower"].iter().any(|secret| path.starts_with(secret)) {
                    Show::Redacted
                } else {
                    Show::Value
                };
                let value = Some(shown(&other, show));
                let problem = format!("must be a table: [{path}]");
                self.mistakes.push(Mistake { key: path.clone(), value, variable: None, problem });
                Table::new()
            }
        };
        Section { document: self, path, table, in_list: false }
    }

    /// Every mistake, unknown keys last; and every key that was asked for.
    pub(super) fn finish(mut self) -> (Vec<Mistake>, BTreeSet<String>) {
        let sections: BTreeSet<&str> = self.known.iter().filter_map(|key| key.split('.').next()).collect();
        for name in self.table.keys() {
            let guess = nearest(name, sections.iter().copied());
            let problem = match guess.or_else(|| home_of(name, &self.known)) {
                Some(guess) => format!("unknown key, did you mean {guess}?"),
                None => format!("unknown key; there are {}", list(sections.iter().copied())),
            };
            self.mistakes.push(Mistake::new(name, problem));
        }
        for (section, key) in &self.unknown {
            self.mistakes
                .push(Mistake::new(format!("{section}.{key}"), about_unknown(section, key, &self.known)));
        }
        let names: Vec<String> = self.known.iter().map(|key| variable_name(key)).collect();
        for name in self.variables.keys() {
            let problem = match nearest_variable(name, &names) {
                Some(guess) => format!("unknown variable, did you mean {guess}?"),
                None => "unknown variable; a key section.key is set by VALETD_SECTION__KEY".to_owned(),
            };
            self.mistakes.push(Mistake::new(name, problem));
        }
        (self.mistakes, self.known)
    }
}

/// A part of the document that is being read.
#[derive(Debug)]
pub(super) struct Section<'d> {
    document: &'d mut Document,
    path: String,
    table: Table,
    /// An entry of a list: the environment replaces the list as a whole, never a key in it.
    in_list: bool,
}

impl Section<'_> {
    /// Path of a key of this section.
    pub(super) fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// Whether the key is given, rightly or wrongly. Ask before it is read.
    pub(super) fn has(&self, key: &str) -> bool {
        let variable = variable_name(&self.path_of(key));
        self.table.contains_key(key) || (!self.in_list && self.document.variables.contains_key(&variable))
    }

    /// A value of the right type, turned into what is wanted. `None`: not given, or a mistake that is now recorded.
    /// `parse` says what is allowed, completing "key = value: …".
    pub(super) fn checked<T: Setting, U>(
        &mut self,
        key: &str,
        show: Show,
        parse: impl FnOnce(T) -> Result<U, String>,
    ) -> Option<U> {
        let path = self.path_of(key);
        self.document.known.insert(pattern(&path));
        let from_file = self.table.remove(key);
        let name = variable_name(&path);
        let from_environment = if self.in_list { None } else { self.document.variables.remove(&name) };
        let (value, typed, variable) = match from_environment {
            Some(text) => {
                let (value, typed) = from_text::<T>(text);
                (value, typed, Some(name))
            }
            None => {
                let value = from_file?;
                let typed = T::from_value(&value);
                (value, typed, None)
            }
        };
        let outcome = match typed {
            Some(typed) => parse(typed),
            None => Err(format!("must be {}", T::EXPECTED)),
        };
        match outcome {
            Ok(parsed) => Some(parsed),
            Err(problem) => {
                let value = Some(shown(&value, show));
                self.document.mistakes.push(Mistake { key: path, value, variable, problem });
                None
            }
        }
    }

    /// Records a mistake of the section as a whole or between keys.
    pub(super) fn refuse(&mut self, key: &str, problem: impl Into<String>) {
        let path = if key.is_empty() { self.path.clone() } else { self.path_of(key) };
        self.document.mistakes.push(Mistake::new(path, problem));
    }

    /// Records a mistake in one item of the list at `key`.
    pub(super) fn refuse_item(&mut self, key: &str, index: usize, value: Option<&str>, problem: String) {
        let path = format!("{}[{index}]", self.path_of(key));
        let value = value.map(|text| shown(&Value::String(text.to_owned()), Show::Value));
        self.document.mistakes.push(Mistake { key: path, value, variable: None, problem });
    }

    /// A section within this one, and whether anything of it was given.
    pub(super) fn section(&mut self, key: &str) -> (Section<'_>, bool) {
        let path = self.path_of(key);
        let value = self.table.remove(key);
        let prefix = format!("{}__", variable_name(&path));
        let given = value.is_some() || self.document.variables.keys().any(|name| name.starts_with(&prefix));
        (self.document.open(path, value), given)
    }

    /// An entry of the list at `key`.
    pub(super) fn entry(&mut self, key: &str, index: usize, table: Table) -> Section<'_> {
        let path = format!("{}[{index}]", self.path_of(key));
        Section { document: self.document, path, table, in_list: true }
    }

    /// Ends the section: what was not asked for is unknown.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            self.document.unknown.push((self.path.clone(), key.clone()));
        }
    }
}

/// The variable that sets the key at `path`.
fn variable_name(path: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", path.to_uppercase().replace('.', "__"))
}

/// A variable's text as TOML where that gives the right type, otherwise as the string it is.
fn from_text<T: Setting>(text: String) -> (Value, Option<T>) {
    // A line break could smuggle in further keys.
    let single = !text.contains(['\n', '\r']);
    let value = if single { format!("value = {text}").parse::<Table>() } else { Ok(Table::new()) };
    // Not TOML is no mistake here: `0.0.0.0:6080` is meant as a string.
    if let Ok(mut table) = value
        && let Some(value) = table.remove("value")
        && let Some(typed) = T::from_value(&value)
    {
        return (value, Some(typed));
    }
    let value = Value::String(text);
    let typed = T::from_value(&value);
    (value, typed)
}

/// `auth.keys[3].kid` as `auth.keys[].kid`.
fn pattern(path: &str) -> String {
    match (path.find('['), path.find(']')) {
        (Some(open), Some(close)) => format!("{}{}", &path[..=open], &path[close..]),
        _ => path.to_owned(),
    }
}

fn shown(value: &Value, show: Show) -> String {
    if show == Show::Redacted {
        return "<redacted>".to_owned();
    }
    match value {
        Value::Array(_) => "[…]".to_owned(),
        Value::Table(_) => "{…}".to_owned(),
        // Pasted where the path of a public key belongs.
        Value::String(text) if text.contains("PRIVATE KEY") => "<redacted>".to_owned(),
        scalar => shortened(&scalar.to_string()),
    }
}

fn shortened(text: &str) -> String {
    let text = text.replace(char::is_control, " ");
    if text.chars().count() <= MAX_SHOWN {
        return text;
    }
    text.chars().take(MAX_SHOWN).chain(['…']).collect()
}

fn about_unknown(section: &str, key: &str, known: &BTreeSet<String>) -> String {
    let prefix = format!("{}.", pattern(section));
    let beside =
        || known.iter().filter_map(|path| path.strip_prefix(&prefix)).filter(|rest| !rest.contains('.'));
    if let Some(guess) = nearest(key, beside()) {
        return format!("unknown key, did you mean {section}.{guess}?");
    }
    match home_of(key, known) {
        Some(guess) => format!("unknown key, did you mean {guess}?"),
        None => format!("unknown key; [{section}] has {}", list(beside())),
    }
}

/// The key of that name in another section.
fn home_of<'k>(key: &str, known: &'k BTreeSet<String>) -> Option<&'k str> {
    known.iter().map(String::as_str).find(|path| path.rsplit('.').next() == Some(key))
}

fn nearest_variable<'k>(name: &str, names: &'k [String]) -> Option<&'k str> {
    let upper = name.to_uppercase();
    // A single underscore after the section is the usual slip.
    let flat = |text: &str| text.replace("__", "_");
    names
        .iter()
        .map(String::as_str)
        .find(|known| flat(known) == flat(&upper))
        .or_else(|| nearest(name, names.iter().map(String::as_str)))
}

fn list<'k>(words: impl IntoIterator<Item = &'k str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}
