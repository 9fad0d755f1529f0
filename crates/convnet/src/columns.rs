//! Aligned columns for people: on a terminal, or as Markdown. Widths are a terminal's: a Korean letter takes two.

use unicode_width::UnicodeWidthStr;

/// How columns are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Spaces between columns and a line under the header.
    Plain,
    /// A Markdown table.
    Markdown,
}

/// Rows of cells under a header: the first columns are aligned left, the others right.
#[derive(Clone, Debug)]
pub struct Columns {
    left: usize,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// Columns under these headings, the first `left` of them aligned left.
    pub fn new(left: usize, header: &[&str]) -> Columns {
        Columns { left, rows: vec![header.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    /// Adds a row; missing cells stay empty and cells beyond the header are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let columns = self.rows[0].len();
        let mut row: Vec<String> = cells.into_iter().take(columns).collect();
        row.resize(columns, String::new());
        self.rows.push(row);
    }

    /// All lines, each ended by a newline.
    pub fn render(&self, style: Style) -> String {
        let widest = |column: usize| self.rows.iter().map(|row| width(&row[column])).max().unwrap_or(0).max(3);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(widest).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &widest))| {
                let gap = " ".repeat(widest - width(cell));
                if column < self.left { format!("{cell}{gap}") } else { format!("{gap}{cell}") }
            });
            let cells: Vec<String> = cells.collect();
            match style {
                Style::Plain => format!(" {}", cells.join("  ")).trim_end().to_owned() + "\n",
                Style::Markdown => format!("| {} |\n", cells.join(" | ")),
            }
        };
        let rule = match style {
            Style::Plain => format!(" {}\n", "─".repeat(widths.iter().map(|width| width + 2).sum::<usize>() - 2)),
            Style::Markdown => {
                let dashes = widths.iter().enumerate().map(|(column, &width)| match column < self.left {
                    true => "-".repeat(width),
                    false => "-".repeat(width - 1) + ":",
                });
                line(&dashes.collect())
            }
        };
        let (header, rows) = (line(&self.rows[0]), self.rows[1..].iter().map(line));
        [header, rule].into_iter().chain(rows).collect()
    }
}

/// Columns of a terminal that a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let grouped =
        digits.as_bytes().rchunks(3).rev().map(|group| group.iter().map(|&digit| char::from(digit)).collect());
    grouped.collect::<Vec<String>>().join(",")
}

/// `1 picture`, `1,234 pictures`, `2 classes`: a number of things, whose name is in the plural unless there is one.
pub fn counted(number: usize, thing: &str) -> String {
    let plural = match (thing.strip_suffix('y'), thing.ends_with('s')) {
        _ if number == 1 => thing.to_owned(),
        (Some(stem), _) => format!("{stem}ies"),
        (None, true) => format!("{thing}es"),
        (None, false) => format!("{thing}s"),
    };
    format!("{} {plural}", thousands(number as u64))
}

/// `1536` as `1.5 KiB`.
pub fn bytes(number: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (number as f64, "B");
    for next in units {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" { format!("{number} B") } else { format!("{value:.1} {unit}") }
}

/// `3 h 07 min`, `2 min 05 s`, `12.3 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut columns = Columns::new(1, &["layer", "MACs"]);
        columns.row(["é".into(), thousands(1_000)]);
        columns.row(["head".into()]);
        assert_eq!(columns.render(Style::Plain), " layer   MACs\n ────────────\n é      1,000\n head\n");
        let markdown = "| layer |  MACs |\n| ----- | ----: |\n| é     | 1,000 |\n| head  |       |\n";
        assert_eq!(columns.render(Style::Markdown), markdown);
    }

    #[test]
    fn wide_letters_are_aligned() {
        let mut columns = Columns::new(1, &["층", "값"]);
        columns.row(["합성곱".into(), "7".into()]);
        columns.row(["pool".into(), "가중치".into()]);
        assert_eq!(
            columns.render(Style::Plain),
            " 층          값\n ──────────────\n 합성곱       7\n pool    가중치\n"
        );
    }

    #[test]
    fn durations_for_people() {
        let texts = [0.04, 59.4, 59.96, 125.0, 11_229.0].map(duration);
        assert_eq!(texts, ["0.0 s", "59.4 s", "1 min 00 s", "2 min 05 s", "3 h 07 min"]);
    }

    #[test]
    fn one_thing_is_in_the_singular() {
        let texts = [(0, "picture"), (1, "test picture"), (1, "class"), (2, "class"), (1200, "entry"), (1, "entry")];
        let texts = texts.map(|(number, thing)| counted(number, thing));
        assert_eq!(texts, ["0 pictures", "1 test picture", "1 class", "2 classes", "1,200 entries", "1 entry"]);
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 12, 999, 1_000, 7_182_080].map(thousands), ["0", "12", "999", "1,000", "7,182,080"]);
        assert_eq!([0, 1023, 1024, 1536, u64::MAX].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "16.0 EiB"]);
    }
}
