//! What holds for every row, and what the rows' own tests ask.

use super::*;

/// The figures of a row.
#[track_caller]
pub(super) fn figures(blocks: Result<Vec<Block>>) -> Vec<Figure> {
    let figure = |block| match block {
        Block::Figure(figure) => Some(figure),
        Block::Words(_) | Block::Exhibit(_) | Block::Slip(_) | Block::Try(..) => None,
    };
    blocks.expect("rows build what is sound").into_iter().filter_map(figure).collect()
}

/// What is computed, in order, as it is shown.
#[track_caller]
pub(super) fn computed(blocks: Result<Vec<Block>>) -> Vec<String> {
    figures(blocks).iter().map(|figure| figure.computed.to_string()).collect()
}

/// What is computed as the notes say it.
#[track_caller]
pub(super) fn agreeing(blocks: Result<Vec<Block>>) -> Vec<String> {
    let figures = figures(blocks);
    figures.iter().filter(|figure| figure.agrees() == Some(true)).map(|figure| figure.computed.to_string()).collect()
}

/// What the notes say and what is computed, where these differ.
#[track_caller]
pub(super) fn differing(blocks: Result<Vec<Block>>) -> Vec<(String, String)> {
    let differ = |figure: Figure| match (&figure.notes, figure.agrees()) {
        (Some(notes), Some(false)) => Some((notes.to_string(), figure.computed.to_string())),
        _ => None,
    };
    figures(blocks).into_iter().filter_map(differ).collect()
}

fn is_hangul(c: char) -> bool {
    ('가'..='힣').contains(&c)
}

#[test]
fn rows_are_numbered_and_their_topics_unique() {
    for (i, row) in rows().iter().enumerate() {
        assert_eq!(row.number, i + 1);
        assert!(rows()[..i].iter().all(|other| other.topic != row.topic));
        assert!(range(row.topic).unwrap() == [i; 2] && range(&row.id().to_lowercase()).unwrap() == [i; 2]);
    }
}

#[test]
fn every_sentence_stands_in_both_languages() {
    for row in rows() {
        for block in row.explain().unwrap() {
            let texts = match block {
                Block::Words(text) | Block::Slip(text) | Block::Try(_, text) => vec![text],
                Block::Figure(Figure { remark: Some(remark), .. }) => vec![remark],
                Block::Figure(_) | Block::Exhibit(_) => vec![],
            };
            for text in texts {
                let (en, ko) = (text.get(Lang::En), text.get(Lang::Ko));
                assert!(!en.contains(is_hangul) && ko.contains(is_hangul), "{}: {en} / {ko}", row.id());
                // Line ends of the source must not leave gaps.
                assert!(!en.contains("  ") && !ko.contains("  "), "{}: {en} / {ko}", row.id());
            }
        }
    }
}

#[test]
fn every_difference_is_explained_and_every_row_can_be_tried() {
    for row in rows() {
        let blocks = row.explain().unwrap();
        assert!(matches!(blocks[0], Block::Words(_)) && matches!(blocks.last(), Some(Block::Try(..))), "{}", row.id());
        assert!(blocks.iter().any(|block| matches!(block, Block::Figure(_))), "{}", row.id());
        for figure in figures(Ok(blocks)) {
            assert!(figure.agrees() != Some(false) || figure.remark.is_some(), "{}: {figure:?}", row.id());
        }
    }
}

#[test]
fn exhibits_fit_a_narrow_terminal() {
    for row in rows() {
        for block in row.explain().unwrap() {
            let Block::Exhibit(text) = block else { continue };
            for line in [Lang::En, Lang::Ko].into_iter().flat_map(|lang| text.get(lang).lines()) {
                assert!(crate::columns::width(line) <= EXHIBIT_WIDTH, "{}: {line}", row.id());
            }
        }
    }
}

#[test]
fn rows_are_chosen_by_number_range_and_topic() {
    let chosen = |words: &[&str]| select(words).map(|rows| rows.iter().map(|row| row.number).collect::<Vec<_>>());
    assert_eq!(chosen(&[]).unwrap(), (1..=16).collect::<Vec<_>>());
    assert_eq!(chosen(&["L10"]).unwrap(), [10]);
    assert_eq!(chosen(&["l2", "ResNet", "L1-L3", "13"]).unwrap(), [1, 2, 3, 13]);
    for (word, expected) in [
        ("L17", "the lecture has no row 'L17': did you mean 'L"),
        ("resnte", "did you mean 'resnet'?"),
        ("transformer", "known are convolution, filters"),
        ("L9-L1", "expected the earlier row first"),
        ("L0", "no row 'L0'"),
        ("", "no row ''"),
        ("L1-L99", "no row 'L1-L99'"),
        ("99999999999999999999999", "no row"),
        ("a\u{1b}[31m", "no row 'a\\u{1b}[31m'"),
    ] {
        let error = chosen(&[word]).unwrap_err().to_string();
        assert!(error.contains(expected), "{word}: {error}");
    }
}
