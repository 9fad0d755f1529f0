//! CIFAR-10 and CIFAR-100 in their binary form: for each picture its label (for CIFAR-100 the coarse one, then the fine
//! one, which is used) and 3,072 bytes, the red, green and blue plane of 32×32. Source:
//! <https://www.cs.toronto.edu/~kriz/cifar.html>.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::columns::counted;
use crate::data::{self, Dataset, Splits, labels};
use crate::{Error, Result};

const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;
/// No file is larger, in bytes.
const MAX_BYTES: u64 = 2 << 30;

/// One of the two sets, in its folder.
pub(super) struct Cifar {
    folder: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Cifar10,
    Cifar100,
}

impl Kind {
    /// The folder within the archive that is distributed.
    fn folder(self) -> &'static str {
        match self {
            Kind::Cifar10 => "cifar-10-batches-bin",
            Kind::Cifar100 => "cifar-100-binary",
        }
    }

    fn test_file(self) -> &'static str {
        match self {
            Kind::Cifar10 => "test_batch.bin",
            Kind::Cifar100 => "test.bin",
        }
    }

    fn names_file(self) -> &'static str {
        match self {
            Kind::Cifar10 => "batches.meta.txt",
            Kind::Cifar100 => "fine_label_names.txt",
        }
    }

    fn classes(self) -> Vec<String> {
        match self {
            Kind::Cifar10 => labels::cifar10(),
            Kind::Cifar100 => labels::cifar100(),
        }
    }

    /// Bytes before the pixels of a picture, of which the last is the label.
    fn label_bytes(self) -> usize {
        match self {
            Kind::Cifar10 => 1,
            Kind::Cifar100 => 2,
        }
    }
}

impl Cifar {
    /// The set whose test file lies in `folder`, or in the folder within it that the distributed archive makes.
    ///
    /// # Errors
    /// The set in the form of Python's pickles, which is not read.
    pub(super) fn find(folder: &Path) -> Result<Option<Cifar>> {
        let found = [Kind::Cifar10, Kind::Cifar100].into_iter().find_map(|kind| {
            let folders = [folder.to_owned(), folder.join(kind.folder())];
            let folder = folders.into_iter().find(|folder| folder.join(kind.test_file()).is_file())?;
            Some(Cifar { folder, kind })
        });
        let pickles = [("", "data_batch_1"), ("cifar-10-batches-py", "data_batch_1"), ("cifar-100-python", "test")];
        let is_pickle = |(within, file): &(&str, &str)| {
            let folder = folder.join(within);
            let named = folder.file_name().is_some_and(|name| name == "cifar-100-python");
            folder.join(file).is_file() && (*file == "data_batch_1" || named)
        };
        match (found, pickles.iter().any(is_pickle)) {
            (None, true) => Err(Error::file(
                folder,
                "CIFAR as Python's pickles, which are not read: expected the binary version (cifar-10-binary.tar.gz or \
                 cifar-100-binary.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html)",
            )),
            (found, _) => Ok(found),
        }
    }

    /// Reads both parts.
    ///
    /// # Errors
    /// Files that are missing or damaged, or labels without a name.
    pub(super) fn splits(&self) -> Result<Splits> {
        Ok(Splits { train: self.dataset("train", &self.train_files()?)?, val: None, test: Some(self.test()?) })
    }

    /// Reads the test part.
    ///
    /// # Errors
    /// As [`Cifar::splits`].
    pub(super) fn test(&self) -> Result<Dataset> {
        self.dataset("test", &[self.folder.join(self.kind.test_file())])
    }

    fn train_files(&self) -> Result<Vec<PathBuf>> {
        let names = match self.kind {
            Kind::Cifar10 => (1..=99).map(|number| format!("data_batch_{number}.bin")).collect(),
            Kind::Cifar100 => vec!["train.bin".to_owned()],
        };
        let files: Vec<PathBuf> = names.iter().map(|name| self.folder.join(name)).filter(|f| f.is_file()).collect();
        match files.is_empty() {
            true => Err(Error::file(&self.folder, format!("missing {}", names[0]))),
            false => Ok(files),
        }
    }

    fn dataset(&self, part: &str, files: &[PathBuf]) -> Result<Dataset> {
        let names = self.folder.join(self.kind.names_file());
        let classes = if names.is_file() { labels::read(&names)? } else { self.kind.classes() };
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for path in files {
            for picture in self.records(path)?.chunks_exact(self.kind.label_bytes() + PIXELS) {
                let (label, planes) = picture.split_at(self.kind.label_bytes());
                let label = label[label.len() - 1];
                if usize::from(label) >= classes.len() {
                    let (picture, classes) = (labels.len(), counted(classes.len(), "class"));
                    let problem =
                        format!("label {label} of picture {picture} is out of range for {classes}, counted from 0");
                    return Err(Error::file(path, problem));
                }
                labels.push(u32::from(label));
                images.extend_from_slice(planes);
            }
        }
        Dataset::new(format!("{} ({part})", self.folder.display()), SHAPE, images, labels, classes)
    }

    /// The content of a file that holds whole pictures.
    fn records(&self, path: &Path) -> Result<Vec<u8>> {
        let (file, size) = data::open(path)?;
        let record = (self.kind.label_bytes() + PIXELS) as u64;
        if size == 0 || size % record != 0 || size > MAX_BYTES {
            let problem = format!(
                "{size} bytes: expected pictures of {record} bytes each, and at most {MAX_BYTES} bytes; cut short, or \
                 not {}",
                self.kind.folder()
            );
            return Err(Error::file(path, problem));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(size).read_to_end(&mut bytes).map_err(Error::io("reading", path))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Sizing, Source};
    use super::*;

    /// Pictures with these labels before them; the first plane holds the picture's number, the others 7.
    fn records(labels: &[&[u8]]) -> Vec<u8> {
        let picture = |(i, label): (usize, &&[u8])| [label, &[i as u8; 1024][..], &[7; 2048]].concat();
        labels.iter().enumerate().flat_map(picture).collect()
    }

    fn problem(folder: &Path) -> String {
        Source::Folder(folder.into()).load(Sizing::default()).unwrap_err().to_string()
    }

    #[test]
    fn pickles_are_called_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("cifar-10-batches-py")).unwrap();
        fs::write(folder.path().join("cifar-10-batches-py/data_batch_1"), b"\x80\x02}").unwrap();
        for place in [folder.path(), &folder.path().join("cifar-10-batches-py")] {
            let message = problem(place);
            assert!(message.contains("Python's pickles") && message.contains("binary version"), "{message}");
        }
    }

    /// Sets that are no files of their own are brought to the net's size, and shown to a predictor.
    #[test]
    fn a_set_in_memory_is_brought_to_another_size() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["data_batch_1.bin", "test_batch.bin"] {
            fs::write(folder.path().join(name), records(&[&[9], &[0]])).unwrap();
        }
        let source = Source::Folder(folder.path().into());
        let target = data::TargetSize::customary([1, 16, 16]);
        let test = source.load(Sizing::to(target)).unwrap().test.unwrap();
        // The luma of (1, 7, 7): 0.299 + 0.701 * 7.
        assert_eq!((test.shape(), &*test.image(1).unwrap()), ([1, 16, 16], &[5; 256][..]));
        let held_out = source.held_out(None, None).unwrap();
        assert_eq!((held_out.part(), held_out.len(), held_out.is_empty()), (Some(data::Part::Test), 2, false));
        assert_eq!(held_out.into_inputs().map(|(_, label)| label).collect::<Vec<_>>(), [9, 0]);
        assert!(source.held_out(Some(data::Part::Val), None).is_err());
        assert_eq!(source.held_out(Some(data::Part::Train), None).unwrap().part(), Some(data::Part::Train));
    }

    #[test]
    fn cifar10_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("cifar-10-batches-bin");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("data_batch_1.bin"), records(&[&[9], &[0]])).unwrap();
        fs::write(inner.join("data_batch_2.bin"), records(&[&[3]])).unwrap();
        fs::write(inner.join("test_batch.bin"), records(&[&[1], &[2]])).unwrap();
        for place in [folder.path(), &inner] {
            let source = Source::Folder(place.into());
            let Splits { train, test, .. } = source.load(Sizing::default()).unwrap();
            let test = test.unwrap();
            assert_eq!((train.labels(), test.labels()), (&[9, 0, 3][..], &[1, 2][..]));
            assert_eq!((test.image(1).unwrap()[1023], test.image(1).unwrap()[1024], test.shape()), (1, 7, [3, 32, 32]));
            assert_eq!(train.classes(), labels::cifar10());
        }
        fs::write(inner.join("batches.meta.txt"), "a\nb\nc\n\n").unwrap();
        let message = problem(folder.path());
        assert!(message.contains("data_batch_1.bin: label 9 of picture 0 is out of range for 3 classes"), "{message}");
        fs::remove_file(inner.join("batches.meta.txt")).unwrap();
        fs::write(inner.join("data_batch_2.bin"), &records(&[&[3]])[1..]).unwrap();
        let message = problem(folder.path());
        assert!(message.contains("data_batch_2.bin: 3072 bytes: expected pictures of 3073 bytes each"), "{message}");
    }

    #[test]
    fn cifar100_has_fine_labels() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("test.bin"), records(&[&[19, 99]])).unwrap();
        assert!(problem(folder.path()).contains("missing train.bin"));
        fs::write(folder.path().join("train.bin"), records(&[&[0, 1], &[1, 50]])).unwrap();
        let Splits { train, test, .. } = Source::Folder(folder.path().into()).load(Sizing::default()).unwrap();
        let test = test.unwrap();
        assert_eq!((train.labels(), test.labels()), (&[1, 50][..], &[99][..]));
        assert_eq!(test.classes()[99], "worm");
        fs::write(folder.path().join("fine_label_names.txt"), "a\n").unwrap();
        assert!(problem(folder.path()).contains("train.bin: label 1 of picture 0 is out of range for 1 class,"));
    }
}
