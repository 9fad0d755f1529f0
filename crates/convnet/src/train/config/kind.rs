//! What the value of a setting looks like, and how it is read from a text.

use toml::Value;

use super::Shuffle;
use crate::Error;
use crate::data::augment::Augmentation;
use crate::suggest::hint;

/// What the value of a setting looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number from 0.
    Count,
    /// A number.
    Number,
    /// A text.
    Text,
    /// The name of a file.
    File,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Whole numbers.
    Counts,
    /// Numbers.
    Numbers,
    /// Channels, height and width; as a text `3x224x224`, or `224x224` for colour.
    Size,
    /// Texts.
    Texts,
    /// The name of an augmentation, or a list of transforms.
    Augmentation,
    /// `none`, `balanced`, or numbers.
    ClassWeights,
    /// `all` or `window=N`.
    Shuffle,
}

/// What weights of classes are called where they are not said one by one.
const CLASS_WEIGHTS: [&str; 2] = ["none", "balanced"];

impl Kind {
    /// What is expected, in words.
    pub fn expected(self) -> String {
        match self {
            Kind::Switch => "true or false".into(),
            Kind::Count => "a whole number from 0 to 9223372036854775807".into(),
            Kind::Number => "a number".into(),
            Kind::Text => "a text".into(),
            Kind::File => "the name of a file".into(),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
            Kind::Counts => "whole numbers, such as 32,64".into(),
            Kind::Numbers => "numbers, such as 0.9,0.999".into(),
            Kind::Size => "a size such as 3x224x224 or 28x28".into(),
            Kind::Texts => "names between commas".into(),
            Kind::Augmentation => "the name of an augmentation or a list of transforms".into(),
            Kind::ClassWeights => "none, balanced, or a number for each class, such as 1,2.5,1".into(),
            Kind::Shuffle => Shuffle::EXPECTED.into(),
        }
    }

    /// A value of this kind from a text, as flags and the environment have it.
    ///
    /// # Errors
    /// What was expected and what came.
    ///
    /// ```
    /// use convnet::train::Kind;
    /// assert_eq!(Kind::Size.parse("224x224").unwrap().to_string(), "[3, 224, 224]");
    /// assert_eq!(Kind::Count.parse("-1").unwrap_err(), "expected a whole number from 0 to 9223372036854775807, got '-1'");
    /// ```
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let trimmed = text.trim();
        let items = || {
            let inside = trimmed.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(trimmed);
            inside.split(',').map(str::trim).filter(|_| !inside.trim().is_empty())
        };
        let count = |text: &str| text.parse().ok().filter(|&number: &i64| number >= 0).map(Value::Integer);
        let number = |text: &str| text.parse().ok().map(Value::Float);
        let value = match self {
            Kind::Switch => trimmed.parse().ok().map(Value::Boolean),
            Kind::Count => count(trimmed),
            Kind::Number => number(trimmed),
            Kind::Text | Kind::File => Some(Value::String(text.into())),
            Kind::Choice(_) | Kind::Shuffle => Some(Value::String(trimmed.into())),
            Kind::Counts => items().map(count).collect::<Option<_>>().map(Value::Array),
            Kind::Numbers => items().map(number).collect::<Option<_>>().map(Value::Array),
            Kind::Texts => Some(Value::Array(items().map(|item| Value::String(item.into())).collect())),
            Kind::Size => size(trimmed),
            Kind::Augmentation => return augmentation(text),
            Kind::ClassWeights if CLASS_WEIGHTS.contains(&trimmed) => Some(Value::String(trimmed.into())),
            Kind::ClassWeights => {
                items().map(number).collect::<Option<_>>().filter(|items: &Vec<_>| !items.is_empty()).map(Value::Array)
            }
        };
        value.ok_or_else(|| format!("expected {}, got '{text}'", self.expected())).and_then(|value| self.check(value))
    }

    /// The same value if it is of this kind; whole numbers are numbers, too.
    pub(super) fn check(self, value: Value) -> Result<Value, String> {
        let problem = |value: &Value| Err(format!("expected {}, got {}", self.expected(), shown(value)));
        match (self, value) {
            (Kind::Number, Value::Integer(number)) => Ok(Value::Float(number as f64)),
            (Kind::Count, Value::Integer(number)) if number < 0 => problem(&Value::Integer(number)),
            (Kind::Switch, value @ Value::Boolean(_))
            | (Kind::Count, value @ Value::Integer(_))
            | (Kind::Number, value @ Value::Float(_))
            | (Kind::Text | Kind::File, value @ Value::String(_)) => Ok(value),
            (Kind::Choice(words), Value::String(word)) if words.contains(&word.as_str()) => Ok(Value::String(word)),
            (Kind::Choice(words), Value::String(word)) => {
                let hint = hint(&word, words.iter().copied());
                Err(format!("expected {}, got '{word}'{hint}", self.expected()))
            }
            (Kind::Size, Value::String(text)) => self.parse(&text),
            (Kind::Size, Value::Array(items)) if items.len() == 3 => {
                each(items, Kind::Count).map_err(|_| format!("expected {}", self.expected()))
            }
            (Kind::Counts, Value::Array(items)) => each(items, Kind::Count),
            (Kind::Numbers | Kind::ClassWeights, Value::Array(items)) => each(items, Kind::Number),
            (Kind::ClassWeights, Value::String(word)) if CLASS_WEIGHTS.contains(&word.as_str()) => {
                Ok(Value::String(word))
            }
            (Kind::Shuffle, Value::String(text)) if text.parse::<Shuffle>().is_ok() => Ok(Value::String(text)),
            (Kind::Texts, Value::Array(items)) => each(items, Kind::Text),
            (Kind::Augmentation, Value::String(name)) => augmentation(&name),
            (Kind::Augmentation, list @ Value::Array(_)) => augmentation(&list.to_string()),
            (_, value) => problem(&value),
        }
    }
}

fn each(items: Vec<Value>, kind: Kind) -> Result<Value, String> {
    items.into_iter().map(|item| kind.check(item)).collect::<Result<_, _>>().map(Value::Array)
}

/// Channels, height and width; three channels where none are named.
fn size(text: &str) -> Option<Value> {
    let numbers = text.split(['x', 'X']).map(|number| number.parse().ok().filter(|&number: &i64| number > 0));
    let numbers: Vec<i64> = numbers.collect::<Option<_>>()?;
    let size = match numbers[..] {
        [height, width] => [3, height, width],
        [channels, height, width] => [channels, height, width],
        _ => return None,
    };
    Some(Value::Array(size.map(Value::Integer).to_vec()))
}

/// The list of transforms, whatever it is called.
fn augmentation(text: &str) -> Result<Value, String> {
    let parsed: Augmentation = text.parse().map_err(|error: Error| error.to_string())?;
    Value::try_from(parsed).map_err(|error| error.to_string())
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{text}'"),
        Value::Array(_) => "a list".into(),
        Value::Table(_) => "a table".into(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crate::train::config::settings::find;

    #[test]
    fn texts_are_read_by_kind() {
        let parsed = |name: &str, text: &str| find(name).unwrap().kind.parse(text).map(|value| value.to_string());
        for (name, text, expected) in [
            ("cdims", "", Ok("[]")),
            ("cdims", "64, 32", Ok("[64, 32]")),
            ("hdims", "[8]", Ok("[8]")),
            ("betas", "0.9,1", Ok("[0.9, 1.0]")),
            ("lr", "1", Ok("1.0")),
            ("input", "1x28x28", Ok("[1, 28, 28]")),
            ("nesterov", "true", Ok("true")),
            ("nesterov", "yes", Err("expected true or false, got 'yes'")),
            ("class_weights", "balanced", Ok("\"balanced\"")),
            ("class_weights", "1, 2.5", Ok("[1.0, 2.5]")),
            ("class_weights", "", Err("expected none, balanced, or a number for each class, such as 1,2.5,1, got ''")),
            (
                "class_weights",
                "even",
                Err("expected none, balanced, or a number for each class, such as 1,2.5,1, got 'even'"),
            ),
            ("lr", "fast", Err("expected a number, got 'fast'")),
            ("epochs", "1\nlr = 2", Err("expected a whole number from 0 to 9223372036854775807, got '1\nlr = 2'")),
            ("optimizer", "adamax", Err("expected one of adam, adamw, sgd, lamb, muon, got 'adamax'")),
        ] {
            assert_eq!(
                parsed(name, text).as_deref(),
                expected.map_err(str::to_owned).as_ref().map(|text| *text),
                "{name} {text}"
            );
        }
    }
}
