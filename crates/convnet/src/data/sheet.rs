//! A contact sheet of a data set: a row for each class with pictures of it that the seed chooses, as a net gets them, or one
//! picture of each class and what an augmentation makes of it.

use std::path::Path;

use plotters::style::text_anchor::HPos;

use super::augment::{Augmentation, RandomKey};
use super::dataset::Making;
use super::{Augmented, Dataset, Normalization};
use crate::canvas::{Canvas, Drawn, GREY, INK, resampled, write_png};
use crate::columns::counted;
use crate::random::Random;
use crate::{Error, Result};

/// Side of the square in which a picture stands.
const TILE: f64 = 112.0;
const GAP: f64 = 8.0;
const MARGIN: f64 = 32.0;
/// Room for the name of a class and its number of pictures.
const NAMES: f64 = 190.0;
/// Room for the title and the line below it.
const TOP: f64 = 104.0;
const TITLE: f64 = 30.0;
const TEXT: f64 = 20.0;
/// Most classes that are drawn.
const MOST: usize = 200;
/// Rows beside each other from so many classes on.
const FEW: usize = 24;

/// How a contact sheet is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    /// Pictures in the row of a class.
    pub per_class: usize,
    /// What is done to pictures; where it does something, a row is one picture and its changed copies.
    pub augmentation: Augmentation,
    /// Decides which pictures are shown, and what is done to them.
    pub seed: u64,
}

impl Default for Sheet {
    /// Eight pictures of each class as they are.
    fn default() -> Sheet {
        Sheet { per_class: 8, augmentation: Augmentation::none(), seed: 0 }
    }
}

/// A row: the number of its class, and planes of the set's shape.
struct Row {
    class: usize,
    pictures: Vec<Vec<u8>>,
}

impl Sheet {
    /// Writes the sheet of a data set as PNG, of its first 200 classes. Pictures that cannot be read are left out; it says which.
    ///
    /// # Errors
    /// Pictures of other than 1 or 3 channels; an augmentation that does not lead to the set's size; no picture that can be read;
    /// a file that cannot be written.
    pub fn write(&self, path: &Path, data: &Dataset) -> Result<Vec<Error>> {
        let shape = data.shape();
        if ![1, 3].contains(&shape[0]) {
            let found = format!("{} channels", shape[0]);
            return Err(Error::setting("pictures", "1 or 3 channels", found));
        }
        let mut problems = Vec::new();
        let rows = self.rows(data, &mut problems)?;
        if rows.iter().all(|row| row.pictures.is_empty()) {
            return Err(problems.pop().unwrap_or_else(|| Error::invalid("expected at least one picture")));
        }
        let blocks = rows.len().div_ceil(FEW).min(3);
        let lines = rows.len().div_ceil(blocks);
        let block = NAMES + self.per_class as f64 * (TILE + GAP) + MARGIN;
        let size = [MARGIN + blocks as f64 * block, TOP + lines as f64 * (TILE + GAP) + MARGIN];
        let counts = data.class_counts();
        write_png(path, size.map(|side| side as usize), |canvas| {
            let title = canvas.shortened(data.name(), TITLE, size[0] - 2.0 * MARGIN)?;
            canvas.text(&title, TITLE, (MARGIN, 36.0), HPos::Left, INK)?;
            canvas.text(&self.describe(data), TEXT, (MARGIN, 72.0), HPos::Left, GREY)?;
            for (number, row) in rows.iter().enumerate() {
                let corner = [MARGIN + (number / lines) as f64 * block, TOP + (number % lines) as f64 * (TILE + GAP)];
                draw(canvas, corner, shape, (&data.classes()[row.class], counts[row.class]), &row.pictures)?;
            }
            Ok(())
        })?;
        Ok(problems)
    }

    fn describe(&self, data: &Dataset) -> String {
        let [_, height, width] = data.shape();
        let (pictures, classes) = (counted(data.len(), "picture"), data.classes().len());
        let shown = if classes > MOST { format!(", of which {MOST} are shown") } else { String::new() };
        let how = match self.augmentation.0.is_empty() {
            true => String::new(),
            false => ". Each row: a picture, and what the augmentation makes of it".to_owned(),
        };
        format!("{pictures} in {}{shown}, at {width}x{height}{how}", counted(classes, "class"))
    }

    fn rows(&self, data: &Dataset, problems: &mut Vec<Error>) -> Result<Vec<Row>> {
        let classes = data.classes().len().min(MOST);
        let mut members = vec![Vec::new(); classes];
        for (index, &label) in data.labels().iter().enumerate() {
            members.get_mut(label as usize).into_iter().for_each(|members: &mut Vec<usize>| members.push(index));
        }
        let unit = Normalization::unit(data.shape()[0]);
        let mut augmented = Augmented::new(data, &self.augmentation, &unit)?;
        let mut making = Making::default();
        let mut rows = Vec::new();
        for (class, mut members) in members.into_iter().enumerate() {
            Random::stream(self.seed, *b"sheet...", class as u64).shuffle(&mut members);
            let wanted = if augmented.is_some() { 1 } else { self.per_class };
            let mut pictures = Vec::new();
            for index in members {
                if pictures.len() >= wanted {
                    break;
                }
                let mut planes = vec![0; data.shape().iter().product()];
                match data.make(index, &mut making, &mut planes) {
                    Ok(()) => pictures.push(planes),
                    Err(error) => {
                        problems.push(error);
                        continue;
                    }
                }
                if let Some(augmented) = &mut augmented {
                    for epoch in 0..self.per_class.saturating_sub(1) as u64 {
                        let key = RandomKey { seed: self.seed, epoch, index: index as u64 };
                        pictures.push(augmented.picture(key)?);
                    }
                }
            }
            rows.push(Row { class, pictures });
        }
        Ok(rows)
    }
}

fn draw(
    canvas: &Canvas,
    [left, top]: [f64; 2],
    [channels, height, width]: [usize; 3],
    (class, count): (&str, usize),
    pictures: &[Vec<u8>],
) -> Drawn {
    let name = canvas.shortened(class, TEXT, NAMES - 2.0 * GAP)?;
    canvas.text(&name, TEXT, (left, top + TILE / 2.0 - 12.0), HPos::Left, INK)?;
    let count = counted(count, "picture");
    canvas.text(&count, 0.85 * TEXT, (left, top + TILE / 2.0 + 14.0), HPos::Left, GREY)?;
    // Small pictures grow by a whole factor, so that their pixels stay square and equal.
    let fit = TILE / height.max(width) as f64;
    let factor = if fit >= 1.0 { fit.floor() } else { fit };
    let size = [width, height].map(|length| (length as f64 * factor).max(1.0));
    for (number, picture) in pictures.iter().enumerate() {
        let corner = [left + NAMES + number as f64 * (TILE + GAP), (top + (TILE - size[1]) / 2.0).floor()];
        // The one grey plane serves as all three.
        let pixel = |channel: usize, y, x| picture[(channel.min(channels - 1) * height + y) * width + x];
        canvas.bitmap(corner, size, |size| resampled([height, width], size, pixel))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_set_is_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        for (shape, classes, augmentation) in
            [([1, 4, 4], 1, "none"), ([3, 8, 200], 30, "cifar"), ([3, 16, 16], 300, "imagenet")]
        {
            let names = (0..classes).map(|class| format!("{class} \u{1f600}{}", "long ".repeat(class % 20))).collect();
            let labels: Vec<u32> = (0..2 * classes as u32).map(|index| index / 3).collect();
            let planes = (0..labels.len() * shape.iter().product::<usize>()).map(|i| i as u8).collect();
            let data = Dataset::new("t", shape, planes, labels, names).unwrap();
            let sheet = Sheet { augmentation: augmentation.parse().unwrap(), per_class: 3, ..Sheet::default() };
            assert!(sheet.write(&path, &data).unwrap().is_empty());
            let first = std::fs::read(&path).unwrap();
            sheet.write(&path, &data).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), first);
        }
        let two = Dataset::new("t", [2, 1, 1], vec![0; 2], vec![0], vec!["a".into()]).unwrap();
        assert!(Sheet::default().write(&path, &two).unwrap_err().to_string().contains("1 or 3 channels"));
    }
}
