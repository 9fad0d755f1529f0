//! The DOT language (graphviz.org/doc/info/lang.html). Names are quoted: a quotation mark and a backslash get a backslash,
//! and an ampersand becomes an entity, because Graphviz replaces entities in labels.

use super::{Card, Figure, cut};

pub(super) fn render(figure: &Figure) -> String {
    let mut text = format!("digraph {} {{\n", quoted(&figure.title));
    text += &format!("  label={}; labelloc=t; rankdir=TB;\n", quoted(&figure.title));
    text +=
        "  node [shape=box, style=\"filled,rounded\", fontname=\"Helvetica\", fontsize=11, margin=\"0.15,0.08\"];\n";
    text += "  edge [color=\"#6b7280\", arrowsize=0.7];\n";
    for (index, card) in figure.cards.iter().enumerate() {
        let [fill, border] = card.kind.colours();
        let width = if card.output { 2 } else { 1 };
        text += &format!(
            "  n{index} [label={}, tooltip={}, fillcolor=\"{fill}\", color=\"{border}\", penwidth={width}];\n",
            quoted(&label(card)),
            quoted(&card.name)
        );
    }
    for (from, to) in &figure.edges {
        text += &format!("  n{from} -> n{to};\n");
    }
    text + "}\n"
}

fn label(card: &Card) -> String {
    let lines = [cut(&card.name)].into_iter().chain(card.lines.clone()).chain([card.footer.clone()]);
    lines.collect::<Vec<String>>().join("\n")
}

/// A quoted string; a line break becomes the language's own.
fn quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' => "\\\"".into(),
            '\\' => "\\\\".into(),
            '&' => "&amp;".into(),
            '\n' => "\\n".into(),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting() {
        assert_eq!(quoted("a \"b\" \\"), r#""a \"b\" \\""#);
        assert_eq!(quoted("x\\n\ny"), r#""x\\n\ny""#);
        assert_eq!(quoted("&lt;"), r#""&amp;lt;""#);
    }
}
