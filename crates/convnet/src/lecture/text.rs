//! Sentences in both languages.

use std::borrow::Cow;

/// A language in which the lecture is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Korean.
    Ko,
}

/// The same text in every language, so that none can be forgotten.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    en: Cow<'static, str>,
    ko: Cow<'static, str>,
}

impl Text {
    /// A text in English and in Korean.
    pub const fn new(en: &'static str, ko: &'static str) -> Text {
        Text { en: Cow::Borrowed(en), ko: Cow::Borrowed(ko) }
    }

    /// A text into which numbers were put.
    pub fn with(en: String, ko: String) -> Text {
        Text { en: en.into(), ko: ko.into() }
    }

    /// What reads the same in every language: names of layers, sums, pictures.
    pub fn same(text: impl Into<Cow<'static, str>>) -> Text {
        let text = text.into();
        Text { en: text.clone(), ko: text }
    }

    /// The text in one language.
    pub fn get(&self, lang: Lang) -> &str {
        match lang {
            Lang::En => &self.en,
            Lang::Ko => &self.ko,
        }
    }
}
