//! The worst mistakes and some samples, each a picture with what was seen in it, and training pictures as they are augmented.

use super::data_uri;
use super::gallery::{Gallery, Shot};
use super::page::{Section, percent, section};
use crate::markup::{Markup, element, text, void};

/// Pictures up to this side are enlarged with their pixels kept square.
const SMALL: usize = 64;

pub(super) fn mistakes(gallery: &Gallery, classes: &[String]) -> Option<Section> {
    let shots = gallery.mistakes();
    if shots.is_empty() {
        return None;
    }
    let note = "The mistakes with the lowest probability for the true class, as the network sees the pictures.";
    Some(section("mistakes", "Worst mistakes", note, shown(shots.iter(), classes)))
}

pub(super) fn samples(gallery: &Gallery, classes: &[String]) -> Option<Section> {
    gallery.samples().next()?;
    let note = "Pictures drawn at random for each class, or for some of many, with what is predicted; mistakes in red.";
    Some(section("samples", "Samples", note, shown(gallery.samples(), classes)))
}

pub(super) fn augmented(gallery: &Gallery, classes: &[String]) -> Option<Section> {
    let shots = gallery.augmented();
    if shots.is_empty() {
        return None;
    }
    let note = "Training pictures as the first epoch has them, changed at random; batches may be mixed after that.";
    let item = |shot: &Shot| {
        let class = &classes[shot.label];
        let caption = element("b", &[], text(class)) + void("br", &[]) + file(shot);
        element("li", &[], figure(shot, &format!("{}: {class}", shot.name), caption)).line()
    };
    let pictures = element("ul", &[("class", &"pictures")], shots.iter().map(item).sum());
    Some(section("augmented", "Augmented pictures", note, pictures))
}

fn shown<'a>(shots: impl Iterator<Item = &'a Shot>, classes: &[String]) -> Markup {
    element("ul", &[("class", &"pictures")], shots.map(|shot| picture(shot, classes)).sum())
}

/// A file's name with its folder, which is mostly its class.
fn short(name: &str) -> &str {
    let folder = name.rmatch_indices(std::path::MAIN_SEPARATOR).nth(1);
    folder.map_or(name, |(place, separator)| &name[place + separator.len()..])
}

fn file(shot: &Shot) -> Markup {
    element("span", &[("class", &"file"), ("title", &shot.name)], text(short(&shot.name)))
}

/// A picture with words below it, and others for those who cannot see it.
fn figure(shot: &Shot, described: &str, caption: Markup) -> Markup {
    let class = if shot.size.iter().all(|&side| side <= SMALL) { "small" } else { "large" };
    let address = data_uri::png(shot.size, &shot.rgb);
    let image = void(
        "img",
        &[
            ("class", &class),
            ("src", &address),
            ("alt", &described),
            ("width", &shot.size[0]),
            ("height", &shot.size[1]),
            ("loading", &"lazy"),
        ],
    );
    element("figure", &[], image + element("figcaption", &[], caption))
}

fn picture(shot: &Shot, classes: &[String]) -> Markup {
    let (truth, predicted) = (&classes[shot.label], &classes[shot.predicted]);
    let [first, own] = shot.probabilities;
    let wrong = shot.label != shot.predicted;
    let mut caption = element("b", &[], text(predicted)) + text(format!(", {}", percent(first, 1)));
    if wrong {
        caption += void("br", &[]) + text(format!("true: {truth}, {}", percent(own, 1)));
    }
    caption += void("br", &[]) + file(shot);
    let figure = figure(shot, &format!("{}: predicted {predicted}, true {truth}", shot.name), caption);
    element("li", &[("class", &if wrong { "wrong" } else { "right" })], figure).line()
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn files_keep_their_folder() {
        let name = |parts: &[&str]| parts.join(std::path::MAIN_SEPARATOR_STR);
        assert_eq!(short(&name(&["", "data", "val", "cat", "1.png"])), name(&["cat", "1.png"]));
        assert_eq!((short(&name(&["cat", "1.png"])), short("digits[3]")), (&*name(&["cat", "1.png"]), "digits[3]"));
    }
}
