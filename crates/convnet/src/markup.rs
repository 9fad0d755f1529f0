//! HTML and SVG as text that cannot be forged: what comes from outside enters through [`text()`] or as the value of an
//! attribute, and both are escaped.

use std::fmt::{Display, Write as _};
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// Well-formed markup.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Markup(String);

/// An attribute's name and its value.
pub(crate) type Attribute<'a> = (&'static str, &'a dyn Display);

/// Text as markup.
pub(crate) fn text(text: impl Display) -> Markup {
    Markup(escaped(&text.to_string()))
}

/// Markup that is written in the program itself.
pub(crate) fn fixed(markup: &'static str) -> Markup {
    Markup(markup.into())
}

/// Lines of text, each escaped, as they stand.
pub(crate) fn lines(text: &str) -> Markup {
    Markup(text.lines().map(|line| escaped(line) + "\n").collect())
}

/// An element with its content.
pub(crate) fn element(name: &'static str, attributes: &[Attribute], content: Markup) -> Markup {
    let mut markup = tag(name, attributes, ">");
    markup.0 += &content.0;
    // Writing to a String cannot fail.
    let _ = write!(markup.0, "</{name}>");
    markup
}

/// An element of HTML that never has content, such as an image.
pub(crate) fn void(name: &'static str, attributes: &[Attribute]) -> Markup {
    tag(name, attributes, ">")
}

/// An element of SVG without content.
pub(crate) fn shape(name: &'static str, attributes: &[Attribute]) -> Markup {
    tag(name, attributes, "/>")
}

fn tag(name: &'static str, attributes: &[Attribute], end: &str) -> Markup {
    let mut markup = format!("<{name}");
    for (name, value) in attributes {
        let _ = write!(markup, " {name}=\"{}\"", escaped(&value.to_string()));
    }
    Markup(markup + end)
}

impl Markup {
    /// The markup with a line break behind it, so that a file has lines.
    pub(crate) fn line(mut self) -> Markup {
        self.0.push('\n');
        self
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl Add for Markup {
    type Output = Markup;

    fn add(mut self, other: Markup) -> Markup {
        self += other;
        self
    }
}

impl AddAssign for Markup {
    fn add_assign(&mut self, other: Markup) {
        self.0 += &other.0;
    }
}

impl Sum for Markup {
    fn sum<I: Iterator<Item = Markup>>(parts: I) -> Markup {
        parts.fold(Markup::default(), Add::add)
    }
}

/// For text and attributes; what XML 1.0 does not allow becomes a replacement character.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let hostile = "</td><script>alert('1 & \"2\"')</script>\u{0}\n";
        let markup = element("td", &[("title", &hostile)], text(hostile) + void("br", &[])).into_string();
        let safe = "&lt;/td&gt;&lt;script&gt;alert(&#39;1 &amp; &quot;2&quot;&#39;)&lt;/script&gt;\u{fffd}\u{fffd}";
        assert_eq!(markup, format!("<td title=\"{safe}\">{safe}<br></td>"));
        assert_eq!(lines("a\n<b>\r\nc").into_string(), "a\n&lt;b&gt;\nc\n");
    }
}
