//! `convnet lecture`: the lecture's rows with their figures, computed as they are printed.

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use convnet::columns::{Columns, Style as ColumnStyle, width};
use convnet::lecture::{self, Block, Figure, Lang, Row, Text, Value};
use serde::Serialize;

use crate::console::{Console, print, print_json, print_styled};
use crate::usage::OrUsage;

/// Columns where stdout is no terminal, and the most and fewest that lines are broken at.
const DEFAULT_COLUMNS: usize = 80;
const MOST_COLUMNS: usize = 110;
const FEWEST_COLUMNS: usize = 40;
/// Spaces before everything but headings.
const INDENT: usize = 2;

/// Walk through the lecture on convolutional networks: every figure computed live
///
/// Each row explains an idea, computes its figures with this library, says where the lecture notes round or slip, and
/// ends with commands to try. ✓ marks a figure that the notes state so, ≠ one where they say something else. On a
/// terminal the rows come one after another at the Enter key.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet lecture\n  \
    convnet lecture L10\n  \
    convnet lecture L1-L9 resnet --lang ko\n  \
    convnet lecture L8 --json")]
pub(crate) struct Args {
    /// Rows (L10), ranges (L1-L9) or topics (alexnet), see --list [default: all]
    #[arg(value_name = "ROW")]
    rows: Vec<String>,

    /// Language of the text
    #[arg(long, value_name = "LANG", default_value = "en", env = "CONVNET_LANG", hide_env = true)]
    lang: Language,

    /// List the rows with their topics, and explain nothing
    #[arg(long, conflicts_with = "json")]
    list: bool,

    /// Go on without waiting for the Enter key
    #[arg(long)]
    no_pause: bool,

    /// Print one JSON document and nothing else on stdout [default: text]
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Language {
    /// English
    En,
    /// Korean
    Ko,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let rows = lecture::select(&self.rows).or_usage()?;
        let lang = match self.lang {
            Language::En => Lang::En,
            Language::Ko => Lang::Ko,
        };
        if self.list {
            return print(&list(&rows, lang));
        }
        if self.json {
            let rows = rows.iter().map(|row| Report::of(row, lang)).collect::<anyhow::Result<Vec<Report>>>()?;
            return print_json(&BTreeMap::from([("rows", rows)]));
        }
        let pauses = !self.no_pause && !console.is_quiet() && io::stdin().is_terminal() && io::stdout().is_terminal();
        let page = Page { lang, columns: columns() };
        for (i, row) in rows.iter().enumerate() {
            print_styled(&page.row(row, &row.explain()?))?;
            match rows.get(i + 1) {
                Some(next) if pauses && !go_on(console, next, lang)? => break,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Waits for the Enter key. Anything else but an empty line, or the end of the input, ends the lecture.
fn go_on(console: &Console, next: &Row, lang: Lang) -> anyhow::Result<bool> {
    let title = next.title.get(lang);
    console.note(&match lang {
        Lang::En => format!("  Enter: {} {title}    q and Enter: leave", next.id()),
        Lang::Ko => format!("  Enter: {} {title}    q를 치고 Enter: 그만두기", next.id()),
    });
    let mut answer = String::new();
    let bytes = io::stdin().lock().read_line(&mut answer)?;
    Ok(bytes > 0 && answer.trim().is_empty())
}

/// The terminal's width, or what `COLUMNS` says.
fn columns() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.trim().parse().ok());
    let found = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    said.or_else(found).unwrap_or(DEFAULT_COLUMNS).clamp(FEWEST_COLUMNS, MOST_COLUMNS)
}

fn list(rows: &[&Row], lang: Lang) -> String {
    let heading = match lang {
        Lang::En => ["row", "topic", "title"],
        Lang::Ko => ["행", "주제", "제목"],
    };
    let mut columns = Columns::new(3, &heading);
    for row in rows {
        columns.row([row.id(), row.topic.to_owned(), row.title.get(lang).to_owned()]);
    }
    columns.render(ColumnStyle::Plain)
}

/// A row as `--json` prints it.
#[derive(Serialize)]
struct Report {
    id: String,
    topic: &'static str,
    title: String,
    figures: Vec<FigureReport>,
    /// Where the notes round, slip or simplify.
    slips: Vec<String>,
    commands: Vec<&'static str>,
}

#[derive(Serialize)]
struct FigureReport {
    name: String,
    working: String,
    /// What the notes say, or null.
    notes: Option<Value>,
    computed: Value,
    unit: String,
    /// Null where the notes say nothing.
    agrees: Option<bool>,
    remark: Option<String>,
}

impl Report {
    fn of(row: &Row, lang: Lang) -> anyhow::Result<Report> {
        let said = |text: &Text| text.get(lang).to_owned();
        let (mut figures, mut slips, mut commands) = (Vec::new(), Vec::new(), Vec::new());
        for block in row.explain()? {
            match block {
                Block::Words(_) | Block::Exhibit(_) => {}
                Block::Slip(text) => slips.push(said(&text)),
                Block::Try(command, _) => commands.push(command),
                Block::Figure(figure) => figures.push(FigureReport {
                    name: said(&figure.name),
                    agrees: figure.agrees(),
                    unit: said(&figure.unit),
                    remark: figure.remark.as_ref().map(said),
                    working: figure.working,
                    notes: figure.notes,
                    computed: figure.computed,
                }),
            }
        }
        Ok(Report { id: row.id(), topic: row.topic, title: said(&row.title), figures, slips, commands })
    }
}

const HEADING: Style = AnsiColor::Green.on_default().bold();
const AGREES: Style = AnsiColor::Green.on_default();
const DIFFERS: Style = AnsiColor::Yellow.on_default().bold();
const COMMAND: Style = AnsiColor::Cyan.on_default();

/// How a row is set.
struct Page {
    lang: Lang,
    columns: usize,
}

impl Page {
    fn row(&self, row: &Row, blocks: &[Block]) -> String {
        let title = format!("{} · {}", row.id(), row.title.get(self.lang));
        let rule = "─".repeat(self.columns.saturating_sub(width(&title) + 4));
        let mut text = format!("{HEADING}─ {title} {rule}{HEADING:#}\n");
        for (i, block) in blocks.iter().enumerate() {
            // Figures and commands stand line under line, all else after an empty one.
            if i == 0 || !is_list(block) || std::mem::discriminant(block) != std::mem::discriminant(&blocks[i - 1]) {
                text.push('\n');
            }
            match block {
                Block::Words(words) => text += &self.paragraph("", words.get(self.lang), INDENT),
                Block::Exhibit(lines) => {
                    lines.get(self.lang).lines().for_each(|line| {
                        text += format!("    {line}").trim_end();
                        text.push('\n');
                    });
                }
                Block::Figure(figure) => text += &self.figure(figure, name_width(blocks, i, self.lang)),
                Block::Slip(words) => {
                    let label = match self.lang {
                        Lang::En => "Careful: ",
                        Lang::Ko => "주의: ",
                    };
                    text += &self.paragraph(label, words.get(self.lang), INDENT);
                }
                Block::Try(command, what) => {
                    if !matches!(blocks[i - 1], Block::Try(..)) {
                        text += match self.lang {
                            Lang::En => "  Try it\n",
                            Lang::Ko => "  직접 해 보기\n",
                        };
                    }
                    text += &format!("    {COMMAND}{command}{COMMAND:#}\n");
                    text += &self.paragraph("", what.get(self.lang), 8);
                }
            }
        }
        text.push('\n');
        text
    }

    /// A figure in one line, or, where that is too narrow, its working on a line of its own; below it the remark.
    fn figure(&self, figure: &Figure, name_width: usize) -> String {
        let Figure { name, working, computed, unit, notes, remark } = figure;
        let (name, unit) = (name.get(self.lang), unit.get(self.lang));
        let mark = match figure.agrees() {
            Some(true) => format!("{AGREES}✓{AGREES:#}"),
            Some(false) => format!("{DIFFERS}≠{DIFFERS:#}"),
            None => " ".to_owned(),
        };
        let computed = if working.is_empty() { computed.to_string() } else { format!("{working} = {computed}") };
        let computed = format!("{computed} {unit}").trim_end().to_owned();
        let gap = " ".repeat(name_width - width(name));
        let mut text = match 4 + name_width + 2 + width(&computed) <= self.columns {
            true => format!("  {mark} {name}{gap}  {computed}\n"),
            false => format!("  {mark} {name}\n{}", self.paragraph("", &computed, 8)),
        };
        if let (Some(notes), Some(false)) = (notes, figure.agrees()) {
            let said = match self.lang {
                Lang::En => format!("the notes: {notes}"),
                Lang::Ko => format!("노트: {notes}"),
            };
            text += &self.paragraph("", &said, 8);
        }
        if let Some(remark) = remark {
            text += &self.paragraph("", remark.get(self.lang), 8);
        }
        text
    }

    /// Words broken at the page's width, each line indented, the first behind a label.
    fn paragraph(&self, label: &str, words: &str, indent: usize) -> String {
        let room = self.columns - indent;
        let label_style = if label.is_empty() { Style::new() } else { DIFFERS };
        let mut text = format!("{:indent$}{label_style}{label}{label_style:#}", "");
        let mut used = width(label);
        for (i, word) in unbroken(words).iter().enumerate() {
            let space = usize::from(i > 0);
            if i > 0 && used + space + width(word) > room {
                text += &format!("\n{:indent$}{word}", "");
                used = width(word);
            } else {
                text += &" ".repeat(space);
                text += word;
                used += space + width(word);
            }
        }
        text + "\n"
    }
}

/// The words of a text; a sign stays with the numbers on its sides, as in `3 × 3` and `89 %`.
fn unbroken(text: &str) -> Vec<String> {
    const SIGNS: [&str; 6] = ["×", "·", "%", "//", "−", "="];
    let mut words: Vec<String> = Vec::new();
    let mut after_sign = false;
    for word in text.split(' ') {
        let sign = SIGNS.contains(&word);
        match words.last_mut() {
            Some(last) if (sign || after_sign) && width(last) < FEWEST_COLUMNS / 2 => *last += &format!(" {word}"),
            _ => words.push(word.to_owned()),
        }
        after_sign = sign && word != "%";
    }
    words
}

fn is_list(block: &Block) -> bool {
    matches!(block, Block::Figure(_) | Block::Try(..))
}

/// The widest name among the figures that stand together with the one at a place.
fn name_width(blocks: &[Block], place: usize, lang: Lang) -> usize {
    let name = |block: &Block| match block {
        Block::Figure(figure) => Some(width(figure.name.get(lang))),
        Block::Words(_) | Block::Exhibit(_) | Block::Slip(_) | Block::Try(..) => None,
    };
    let before = blocks[..place].iter().rev().map_while(name);
    before.chain(blocks[place..].iter().map_while(name)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// A command line as a shell takes it apart.
    fn arguments(line: &str) -> Vec<String> {
        let quoted = line.split('"').enumerate();
        quoted
            .flat_map(|(i, part)| match i % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect(),
                _ => vec![part.to_owned()],
            })
            .collect()
    }

    #[test]
    fn every_command_to_try_is_understood() {
        for row in lecture::rows() {
            for block in row.explain().unwrap() {
                if let Block::Try(command, _) = block {
                    let parsed = crate::Cli::try_parse_from(arguments(command));
                    assert!(parsed.is_ok(), "{}: {command}: {}", row.id(), parsed.err().unwrap());
                }
            }
        }
    }

    #[test]
    fn lines_are_broken_between_words_at_the_width_of_wide_letters() {
        let page = Page { lang: Lang::Ko, columns: 40 };
        let text = page.paragraph("", "합성곱 신경망은 이미지를 훑어서 특징을 뽑아낸다 3 × 3 filter", 2);
        assert!(text.lines().count() == 2 && text.lines().all(|line| width(line) <= 40), "{text}");
        assert_eq!(unbroken("a 3 × 3 filter, 89 % of them"), ["a", "3 × 3", "filter,", "89 %", "of", "them"]);
        assert_eq!(unbroken(""), [""]);
    }
}
