//! What a net saw in each picture, as CSV by RFC 4180.

use std::io::{self, Write};

use super::{NEAR, Seen, ranking, softmax};
use crate::csv::field;

/// Writes a line for each picture: its name, its class with the probability that the net gives it, and the first five
/// guesses, each with its probability.
///
/// ```
/// use convnet::evaluate::{PredictionsCsv, Seen};
/// let mut file = Vec::new();
/// let classes = ["cat", "dog, small"].map(str::to_owned);
/// let mut csv = PredictionsCsv::begin(&mut file, &classes).unwrap();
/// csv.add(&Seen { name: "a.png", label: 0, logits: &[0.0, 0.0], planes: &[] }).unwrap();
/// let expected = "picture,true,true_probability,guess1,probability1,guess2,probability2\r\n\
///                 a.png,cat,0.5,cat,0.5,\"dog, small\",0.5\r\n";
/// assert_eq!(String::from_utf8(file).unwrap(), expected);
/// ```
#[derive(Debug)]
pub struct PredictionsCsv<'a, W: Write> {
    out: W,
    classes: &'a [String],
}

impl<'a, W: Write> PredictionsCsv<'a, W> {
    /// Writes the line of headings.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(mut out: W, classes: &'a [String]) -> io::Result<PredictionsCsv<'a, W>> {
        write!(out, "picture,true,true_probability")?;
        (1..=classes.len().min(NEAR)).try_for_each(|guess| write!(out, ",guess{guess},probability{guess}"))?;
        out.write_all(b"\r\n")?;
        Ok(PredictionsCsv { out, classes })
    }

    /// Writes the line of a picture.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, seen: &Seen) -> io::Result<()> {
        let probabilities = softmax(seen.logits);
        let own = probabilities[seen.label];
        write!(self.out, "{},{},{own}", field(seen.name), field(&self.classes[seen.label]))?;
        for class in ranking(seen.logits).into_iter().take(NEAR) {
            write!(self.out, ",{},{}", field(&self.classes[class]), probabilities[class])?;
        }
        self.out.write_all(b"\r\n")
    }

    /// What it was written to.
    pub fn into_inner(self) -> W {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_of_many_classes_are_guessed() {
        let classes: Vec<String> = (0..7).map(|class| class.to_string()).collect();
        let mut csv = PredictionsCsv::begin(Vec::new(), &classes).unwrap();
        let logits = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        csv.add(&Seen { name: "x", label: 0, logits: &logits, planes: &[] }).unwrap();
        let text = String::from_utf8(csv.into_inner()).unwrap();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!((lines.len(), lines[2]), (3, ""));
        assert!(lines[0].ends_with(",guess5,probability5"), "{text}");
        let fields: Vec<&str> = lines[1].split(',').collect();
        assert_eq!((fields.len(), fields[1], fields[3], fields[11]), (13, "0", "6", "2"));
        // exp(-6) / (1 + exp(-1) + … + exp(-6))
        assert!((fields[2].parse::<f64>().unwrap() - 0.001_568_300_315_886).abs() < 1e-9, "{}", fields[2]);
    }
}
