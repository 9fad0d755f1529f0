//! Kernels: small matrices of numbers, as people write them down, one or one for each colour.

use std::fmt;
use std::io::Read;
use std::path::Path;

use crate::error::times;
use crate::{Error, Result, data};

/// Longest side of a kernel.
pub const MAX_SIDE: usize = 255;
/// Largest sum of the weights' sizes: no sum over pixels can overflow.
const MAX_SUM: f32 = 1e30;
/// Longest file or text of a kernel, in bytes.
const MAX_TEXT: u64 = 4 << 20;

/// Channels that a kernel may have: one slides over each channel of a picture by itself, three belong to red, green and blue.
pub const CHANNELS: [usize; 2] = [1, 3];

/// Numbers over one divisor: the weights are `numbers / divisor`.
///
/// A kernel of one channel is a matrix, and slides over each colour by itself. One of three channels is k×k×3, as the filters
/// of a network's first convolution are: a matrix for each colour, and the products of all three go into one sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    channels: usize,
    size: [usize; 2],
    /// Channel by channel, row by row.
    numbers: Vec<f32>,
    divisor: f32,
}

impl Kernel {
    /// A kernel of one channel, of these rows.
    ///
    /// # Errors
    /// As [`Kernel::of_channels`].
    pub fn new(rows: &[Vec<f32>], divisor: f32) -> Result<Kernel> {
        Kernel::of_channels(&[rows.to_vec()], divisor)
    }

    /// A kernel with a matrix, given by its rows, for each channel.
    ///
    /// # Errors
    /// When there are not as many channels as [`CHANNELS`] says, a channel has no number, rows differ in length or channels in
    /// size, a side is above [`MAX_SIDE`], or weights are not finite or absurdly large.
    pub fn of_channels(matrices: &[Vec<Vec<f32>>], divisor: f32) -> Result<Kernel> {
        let channels = matrices.len();
        if !CHANNELS.contains(&channels) {
            let found = format_args!("{channels} channels");
            return Err(Error::setting("kernel", "1 channel, or 3 for red, green and blue", found));
        }
        let mut size = [0; 2];
        for (rows, channel) in matrices.iter().zip(1..) {
            let of = |part: String| if channels == 1 { part } else { format!("{part} in channel {channel}") };
            let found = matrix_size(rows, of)?;
            if channel > 1 && found != size {
                let (of, expected, found) = (of("kernel".into()), size.to_vec(), found.to_vec());
                return Err(Error::Shape { of, expected, found });
            }
            size = found;
        }
        let numbers = matrices.iter().flatten().flatten().copied().collect();
        Kernel { channels, size, numbers, divisor }.checked()
    }

    /// The kernel, unless its weights are no numbers to compute with.
    fn checked(self) -> Result<Kernel> {
        // A divisor of 0 makes the sum infinite or no number.
        let sum = self.weights().iter().map(|weight| weight.abs()).sum::<f32>();
        if !self.divisor.is_finite() || !sum.is_finite() || sum > MAX_SUM {
            return Err(Error::invalid(
                "the weights of a kernel must be finite, and their sizes add up to 1e30 at most",
            ));
        }
        Ok(self)
    }

    /// Reads `1 2 1; 2 4 2; 1 2 1 / 16`: rows end at a semicolon or a line's end, numbers are parted by spaces or
    /// commas and may be fractions such as `1/9`, and one divisor for all may stand at the end, after a space. A bar parts
    /// the matrices of red, green and blue: `0.299 | 0.587 | 0.114`. What follows a `#` in a line is a comment.
    ///
    /// # Errors
    /// When a number cannot be read, or as [`Kernel::of_channels`].
    ///
    /// ```
    /// use convnet::filter::Kernel;
    ///
    /// let kernel = Kernel::parse("1 2 1; 2 4 2; 1 2 1 / 16").unwrap();
    /// assert_eq!((kernel.size(), kernel.weights()[4]), ([3, 3], 0.25));
    /// assert_eq!(kernel.to_string(), "1 2 1; 2 4 2; 1 2 1 / 16");
    /// let grey = Kernel::parse("0.299 | 0.587 | 0.114").unwrap();
    /// assert_eq!((grey.channels(), grey.size()), (3, [1, 1]));
    /// ```
    pub fn parse(text: &str) -> Result<Kernel> {
        let bare: Vec<&str> = text.lines().map(|line| line.split('#').next().unwrap_or_default()).collect();
        let bare = bare.join("\n");
        let (body, divisor) = match bare.rsplit_once('/') {
            // A slash within a word is a fraction's.
            Some((body, divisor)) if body.is_empty() || body.ends_with(|c: char| c.is_whitespace() || c == ';') => {
                (body, number(divisor.trim().trim_end_matches(';').trim_end())?)
            }
            _ => (bare.as_str(), 1.0),
        };
        let words = |row: &str| {
            let words = row.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
            words.map(number).collect::<Result<Vec<f32>>>()
        };
        let rows = |matrix: &str| {
            let rows = matrix.split([';', '\n']).filter(|row| !row.trim().is_empty());
            rows.map(words).collect::<Result<Vec<_>>>()
        };
        Kernel::of_channels(&body.split('|').map(rows).collect::<Result<Vec<_>>>()?, divisor)
    }

    /// Reads a text file, as [`Kernel::parse`].
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::File`] when it is too long or holds no kernel.
    pub fn load(path: &Path) -> Result<Kernel> {
        let (file, bytes) = data::open(path)?;
        if bytes > MAX_TEXT {
            return Err(Error::file(path, format!("{bytes} bytes are too many for a kernel")));
        }
        let mut text = Vec::new();
        file.take(MAX_TEXT).read_to_end(&mut text).map_err(Error::io("reading", path))?;
        let text = String::from_utf8(text).map_err(|_| Error::file(path, "expected rows of numbers as text"))?;
        Kernel::parse(&text).map_err(|problem| Error::file(path, problem.to_string()))
    }

    /// 1 for a kernel that slides over each channel of a picture by itself, 3 for one with a matrix for each colour.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Rows and columns of each channel's matrix.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// The numbers as they are written, channel by channel, row by row.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.numbers.chunks_exact(self.size[1])
    }

    /// What every number is divided by.
    pub fn divisor(&self) -> f32 {
        self.divisor
    }

    /// `numbers / divisor`, channel by channel, row by row.
    pub fn weights(&self) -> Vec<f32> {
        self.numbers.iter().map(|number| number / self.divisor).collect()
    }

    /// The kernel turned by 180°: correlation with it is convolution with the original. Channels stay in their order.
    pub fn flipped(&self) -> Kernel {
        let matrices = self.numbers.chunks_exact(self.size[0] * self.size[1]);
        let numbers = matrices.flat_map(|matrix| matrix.iter().rev().copied()).collect();
        Kernel { numbers, ..self.clone() }
    }

    /// Whether the weights add up to 0, within rounding: such a kernel answers 0 wherever the picture is flat, and grey where
    /// the kernel has three channels.
    pub fn is_zero_sum(&self) -> bool {
        let sum = |value: fn(f32) -> f32| self.numbers.iter().map(|&n| f64::from(value(n))).sum::<f64>();
        sum(|n| n).abs() <= 1e-5 * sum(f32::abs)
    }
}

/// Rows and columns; `of` says of which part of a kernel an error is.
fn matrix_size(rows: &[Vec<f32>], of: impl Fn(String) -> String) -> Result<[usize; 2]> {
    let [height, width] = [rows.len(), rows.first().map_or(0, Vec::len)];
    if height == 0 || width == 0 {
        return Err(Error::setting("kernel", of("rows of numbers".into()), "nothing"));
    }
    if let Some(i) = rows.iter().position(|row| row.len() != width) {
        let (row, found) = (i + 1, rows[i].len());
        return Err(Error::Length { of: of(format!("row {row} of the kernel")), expected: width, found });
    }
    if height > MAX_SIDE || width > MAX_SIDE {
        let expected = of(format!("at most {MAX_SIDE}x{MAX_SIDE} numbers"));
        return Err(Error::setting("kernel", expected, times(&[height, width])));
    }
    Ok([height, width])
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, row) in self.rows().enumerate() {
            let row: Vec<String> = row.iter().map(f32::to_string).collect();
            let before = match i % self.size[0] {
                _ if i == 0 => "",
                0 => " | ",
                _ => "; ",
            };
            write!(f, "{before}{}", row.join(" "))?;
        }
        if self.divisor != 1.0 { write!(f, " / {}", self.divisor) } else { Ok(()) }
    }
}

/// A number or a fraction.
fn number(word: &str) -> Result<f32> {
    let parsed = match word.split_once('/') {
        Some((above, below)) => above.parse::<f32>().and_then(|above| Ok(above / below.parse::<f32>()?)),
        None => word.parse::<f32>(),
    };
    let short: String = word.chars().take(40).collect();
    match parsed {
        Ok(number) if number.is_finite() => Ok(number),
        Ok(_) => Err(Error::setting("kernel", "finite numbers", format_args!("'{short}'"))),
        Err(_) => Err(Error::setting("kernel", "numbers", format_args!("'{short}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_read_as_people_write_them() {
        let expected = Kernel::new(&[vec![1.0, -2.5], vec![0.5, 4.0]], 8.0).unwrap();
        for text in
            ["1 -2.5; .5 4 / 8", "1,-2.5;1/2,4 /8", "# mine\n1 -2.5 # first\n\n5e-1\t4\n/ 8\n", "1 -2.5;.5 4;/8;"]
        {
            assert_eq!(Kernel::parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(Kernel::parse("1/4 1/4").unwrap().weights(), [0.25; 2]);
        assert_eq!(Kernel::parse(&expected.to_string()).unwrap(), expected);
        assert_eq!(expected.flipped().weights(), [0.5, 0.0625, -0.3125, 0.125]);
        assert!(Kernel::parse("0.1 0.2 -0.3").unwrap().is_zero_sum() && !expected.is_zero_sum());
    }

    #[test]
    fn a_bar_parts_the_matrices_of_three_channels() {
        let kernel = Kernel::parse("1 2; 3 4 | 5 6; 7 8 | 9 10; 11 12 / 2").unwrap();
        assert_eq!((kernel.channels(), kernel.size(), kernel.rows().len()), (3, [2, 2], 6));
        assert_eq!(kernel.weights()[4..8], [2.5, 3.0, 3.5, 4.0]);
        assert_eq!(Kernel::parse(&kernel.to_string()).unwrap(), kernel);
        assert_eq!(Kernel::parse("1 2\n3 4\n|# green\n5 6\n7 8\n\n|\n9 10\n11 12\n/ 2\n").unwrap(), kernel);
        assert_eq!(kernel.flipped().to_string(), "4 3; 2 1 | 8 7; 6 5 | 12 11; 10 9 / 2");
        assert!(Kernel::parse("1 | -2 | 1").unwrap().is_zero_sum() && !kernel.is_zero_sum());
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        let long = vec!["1"; MAX_SIDE + 1];
        for (text, problem) in [
            ("", "rows of numbers, got nothing"),
            (" ; \n#1", "got nothing"),
            ("/ 2", "got nothing"),
            ("1 2; 3", "row 2 of the kernel: expected 2, got 1"),
            ("1 x; 3 4", "expected numbers, got 'x'"),
            ("1 NaN", "expected finite numbers, got 'NaN'"),
            ("inf 1", "finite numbers"),
            ("1/0 1", "finite numbers"),
            ("1 1 / 0", "finite"),
            ("1 1 / 1 / 2", "expected numbers"),
            ("1e38 / 1e-30", "finite"),
            ("1 | 2", "expected 1 channel, or 3 for red, green and blue, got 2 channels"),
            ("1 | 2 | 3 | 4", "got 4 channels"),
            ("1 | 2 |", "expected rows of numbers in channel 3, got nothing"),
            ("1 | 2 3; 4 | 5", "row 2 of the kernel in channel 2: expected 2, got 1"),
            ("1 2 | 1; 2 | 1 2", "kernel in channel 2: expected shape [1, 2], got [2, 1]"),
            (&long.join(" "), "at most 255x255 numbers, got 1x256"),
            (&long.join(";"), "at most 255x255 numbers, got 256x1"),
        ] {
            let error = Kernel::parse(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn files_are_named_in_their_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernel.txt");
        for (content, problem) in [(&b"\xff\xfe"[..], "as text"), (b"1 2\n3", "row 2"), (&[b' '; 5 << 20], "too many")]
        {
            std::fs::write(&path, content).unwrap();
            let error = Kernel::load(&path).unwrap_err().to_string();
            assert!(error.contains("kernel.txt: ") && error.contains(problem), "{error}");
        }
        std::fs::write(&path, "1 0 -1\n2 0 -2\n1 0 -1\n").unwrap();
        assert_eq!(Kernel::load(&path).unwrap().to_string(), "1 0 -1; 2 0 -2; 1 0 -1");
        assert!(Kernel::load(folder.path()).is_err() && Kernel::load(Path::new("/none")).is_err());
    }
}
