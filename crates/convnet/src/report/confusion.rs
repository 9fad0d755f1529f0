//! Which classes are taken for which: a table whose cells are shaded, for up to 30 classes, and the pairs that are confused
//! most.

use super::page::{Section, percent, section};
use crate::columns::thousands;
use crate::evaluate::{ConfusedPair, Evaluation};
use crate::markup::{Markup, element, text};

/// Classes up to which there is a table.
const MOST: usize = 30;
/// Letters of a column's name that fit upright.
const UPRIGHT: usize = 3;
/// Letters of a name in the table; the whole of it shows under the pointer.
const LETTERS: usize = 24;
/// Shading from which on letters are light.
const HOT: f64 = 0.6;

pub(super) fn confusion(evaluation: &Evaluation, classes: &[String]) -> Option<Section> {
    let table = evaluation.confusion.as_ref().filter(|_| classes.len() <= MOST).map(|rows| table(rows, classes));
    let pairs = (!evaluation.confused.is_empty()).then(|| pairs(&evaluation.confused));
    let note = match (&table, &pairs) {
        (None, None) => return None,
        (Some(_), _) => {
            "Rows are true classes, columns predicted ones. Shades show shares of the row, blue for right and red for wrong."
        }
        (None, Some(_)) => "The pairs of classes that are confused most.",
    };
    let content = table.unwrap_or_default() + pairs.unwrap_or_default();
    let content = element("div", &[("class", &"beside")], content);
    Some(section("confusion", "Confusions", note, content))
}

fn table(rows: &[Vec<u64>], classes: &[String]) -> Markup {
    let tilted = classes.iter().any(|class| class.chars().count() > UPRIGHT);
    let heading = |class: &String| {
        let look = if tilted { "tilted" } else { "upright" };
        let name = element("span", &[], text(short(class)));
        element("th", &[("scope", &"col"), ("class", &look), ("title", class)], name)
    };
    let corner = element("td", &[("class", &"corner")], text("true \u{2193} predicted \u{2192}"));
    let head = element("tr", &[], corner + classes.iter().map(heading).sum()).line();
    let row = |(label, counts): (usize, &Vec<u64>)| {
        let whole: u64 = counts.iter().sum();
        let name = element("th", &[("scope", &"row"), ("title", &classes[label])], text(short(&classes[label])));
        let cells = counts.iter().enumerate().map(|(seen, &count)| {
            let share = count as f64 / whole.max(1) as f64;
            if count == 0 {
                return element("td", &[], Markup::default());
            }
            // Roots, so that the few mistakes of a good network show.
            let shade = 0.9 * share.sqrt();
            let class = format!("{}{}", if seen == label { "r" } else { "w" }, if shade > HOT { " hot" } else { "" });
            let title = format!(
                "{} of {} of {} predicted as {} ({})",
                thousands(count),
                thousands(whole),
                classes[label],
                classes[seen],
                percent(share, 1)
            );
            let style = format!("--h:{shade:.2}");
            element("td", &[("class", &class), ("style", &style), ("title", &title)], text(thousands(count)))
        });
        element("tr", &[], name + cells.sum()).line()
    };
    let body = element("tbody", &[], rows.iter().enumerate().map(row).sum());
    let table = element("table", &[("class", &"heat")], element("thead", &[], head) + body);
    element("div", &[("class", &"wide"), ("tabindex", &0)], table).line()
}

fn pairs(pairs: &[ConfusedPair]) -> Markup {
    let heading = |(name, class): (&str, &str)| element("th", &[("scope", &"col"), ("class", &class)], text(name));
    let names = [("true", "name"), ("predicted", "name"), ("pictures", ""), ("share of the class", "")];
    let head = element("tr", &[], names.map(heading).into_iter().sum());
    let row = |pair: &ConfusedPair| {
        let names = element("th", &[("scope", &"row"), ("class", &"name")], text(&pair.label))
            + element("td", &[("class", &"name")], text(&pair.predicted));
        let numbers = [thousands(pair.images), percent(pair.share, 1)];
        element("tr", &[], names + numbers.into_iter().map(|number| element("td", &[], text(number))).sum()).line()
    };
    let table = element("thead", &[], head) + element("tbody", &[], pairs.iter().map(row).sum());
    let title = element("h3", &[], text("Most confused pairs"));
    let table = element("div", &[("class", &"wide tall"), ("tabindex", &0)], element("table", &[], table));
    element("div", &[], title + table).line()
}

/// A name, cut where it is long.
fn short(name: &str) -> String {
    match name.chars().count() > LETTERS {
        true => name.chars().take(LETTERS - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}
