//! Typed reading of a TOML table that knows where each value stands and which keys nobody asked for.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::geometry::Padding;
use crate::ops::{InitRule, Shape};
use crate::suggest::suggest;

/// What is wrong with a document, and at which byte of it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) problem: String,
}

impl Fault {
    pub(super) fn new(span: Range<usize>, problem: impl Into<String>) -> Fault {
        Fault { at: span.start, problem: problem.into() }
    }
}

/// A table whose keys are asked for one by one; [`Fields::finish`] refuses the rest. So the known keys of a table are
/// written down once: where they are read.
pub(super) struct Fields<'a> {
    source: &'a str,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(source: &'a str, table: &'a DeTable<'a>, span: Range<usize>) -> Fields<'a> {
        Fields { source, table, span, asked: Vec::new() }
    }

    /// A fault of the table as a whole.
    pub(super) fn fault(&self, problem: impl Into<String>) -> Fault {
        Fault::new(self.span.clone(), problem)
    }

    /// A fault of one key's value; of the whole table where the key is missing.
    pub(super) fn fault_at(&self, key: &str, problem: impl Into<String>) -> Fault {
        Fault::new(self.table.get(key).map_or(self.span.clone(), Spanned::span), problem)
    }

    /// The value of a key, as it was written.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.table.get(key)
    }

    /// The value of a key that may be missing.
    pub(super) fn get<T: Field>(&mut self, key: &'static str) -> Result<Option<T>, Fault> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match T::read(value.get_ref()) {
            Some(field) => Ok(Some(field)),
            None => {
                let got = excerpt(self.source.get(value.span()).unwrap_or_default());
                Err(self.fault_at(key, format!("{key}: expected {}, got {got}", T::EXPECTED)))
            }
        }
    }

    /// The value of a key that must be there.
    pub(super) fn required<T: Field>(&mut self, key: &'static str) -> Result<T, Fault> {
        self.get(key)?.ok_or_else(|| self.fault(format!("expected a value for '{key}': {}", T::EXPECTED)))
    }

    /// Refuses keys that nobody has asked for.
    pub(super) fn finish(self) -> Result<(), Fault> {
        match self.table.keys().find(|key| !self.asked.contains(&key.get_ref().as_ref())) {
            None => Ok(()),
            Some(key) => {
                let name = excerpt(key.get_ref());
                let problem = format!("unknown field '{name}': {}", suggest(key.get_ref(), self.asked.iter().copied()));
                Err(Fault::new(key.span(), problem))
            }
        }
    }
}

/// The first line of what was written, short enough for a message.
pub(super) fn excerpt(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let short: String = line.chars().filter(|c| !c.is_control()).take(40).collect();
    if short.len() < text.len() { short + "…" } else { short }
}

/// A type that a setting can have.
pub(super) trait Field: Sized {
    /// What a person should write.
    const EXPECTED: &'static str;

    fn read(value: &DeValue<'_>) -> Option<Self>;
}

impl Field for usize {
    const EXPECTED: &'static str = "a whole number";

    fn read(value: &DeValue<'_>) -> Option<usize> {
        let number = value.as_integer()?;
        usize::from_str_radix(number.as_str(), number.radix()).ok()
    }
}

impl Field for f32 {
    const EXPECTED: &'static str = "a number";

    fn read(value: &DeValue<'_>) -> Option<f32> {
        let text = value.as_float().map(|float| float.as_str());
        text.or_else(|| value.as_integer().map(|integer| integer.as_str()))?.parse().ok()
    }
}

impl Field for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(value: &DeValue<'_>) -> Option<bool> {
        value.as_bool()
    }
}

impl Field for String {
    const EXPECTED: &'static str = "a text in quotes";

    fn read(value: &DeValue<'_>) -> Option<String> {
        value.as_str().map(str::to_owned)
    }
}

impl Field for InitRule {
    const EXPECTED: &'static str = "\"kaiming_normal\", \"kaiming_normal_fan_out\", \"kaiming_uniform\", \"uniform\", \"uniform_fan_out(SCALE)\", \"normal(STD)\" or \"constant(VALUE)\"";

    fn read(value: &DeValue<'_>) -> Option<InitRule> {
        InitRule::from_text(value.as_str()?)
    }
}

/// A list of any length.
impl<T: Field> Field for Vec<T> {
    const EXPECTED: &'static str = "a list in brackets";

    fn read(value: &DeValue<'_>) -> Option<Vec<T>> {
        value.as_array()?.iter().map(|element| T::read(element.get_ref())).collect()
    }
}

/// One number for both axes, or `[height, width]`.
impl Field for [usize; 2] {
    const EXPECTED: &'static str = "a whole number or [height, width]";

    fn read(value: &DeValue<'_>) -> Option<[usize; 2]> {
        match usize::read(value) {
            Some(both) => Some([both; 2]),
            None => Vec::read(value)?.try_into().ok(),
        }
    }
}

impl Field for Padding {
    const EXPECTED: &'static str = "a whole number, [height, width], [top, left, bottom, right] or \"same\"";

    fn read(value: &DeValue<'_>) -> Option<Padding> {
        if value.as_str() == Some("same") {
            return Some(Padding::Same);
        }
        if let Some(pixels) = <[usize; 2]>::read(value) {
            return Some(Padding::per_axis(pixels));
        }
        let [top, left, bottom, right] = Vec::read(value)?.try_into().ok()?;
        Some(Padding::Explicit { begin: [top, left], end: [bottom, right] })
    }
}

impl Field for Shape {
    const EXPECTED: &'static str = "[channels, height, width], or one number for a vector";

    fn read(value: &DeValue<'_>) -> Option<Shape> {
        match usize::read(value) {
            Some(features) => Some(Shape::Vector(features)),
            None => Vec::read(value)?.try_into().ok().map(Shape::Map),
        }
    }
}
