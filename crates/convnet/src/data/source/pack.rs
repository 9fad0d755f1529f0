//! Shards in WebDataset's form from any set of pictures in files: tars of samples, each a picture (`.jpg`, `.png`, …), the number of
//! its class (`.cls`) and its name (`.json`, field `label`), in an order that the seed decides. Pictures are kept as they are,
//! or resized once.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use tar::{Builder, Header};

use super::picture_set::{PartList, PictureSet, sorted_classes};
use super::{Listed, Part, Source};
use crate::data::TargetSize;
use crate::data::picture;
use crate::data::resample::{Layout, Resampling};
use crate::data::resize::{Axis, Interpolation};
use crate::data::stored::{Item, Stored};
use crate::files::AtomicFile;
use crate::random::Random;
use crate::{Error, Result};

/// What in the name of a shard stands for its part and number.
const PLACE: &str = "{}";
/// Quality of resized JPEG files, of 100.
#[cfg(feature = "jpeg")]
const QUALITY: u8 = 95;

/// How shards are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Packing {
    /// Their path, in which `{}` stands for part and number: `photos-{}.tar` becomes `photos-train-000000.tar`.
    pub output: PathBuf,
    /// Pictures whose shorter side is longer are resized to so many pixels.
    pub resize: Option<usize>,
    /// A shard is full beyond so many bytes.
    pub shard_bytes: u64,
    /// Decides the order.
    pub seed: u64,
}

/// What was packed.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Packed {
    /// The shards.
    pub shards: Vec<PathBuf>,
    /// Pictures in them.
    pub pictures: usize,
    /// Bytes of the shards.
    pub bytes: u64,
    /// What was noticed as the pictures were listed.
    pub notes: Vec<String>,
}

impl Source {
    /// Writes shards, each whole or not at all. `watch` is told how many pictures of how many are packed, and can break off; the
    /// shards that are complete stay then, and there is no result.
    ///
    /// # Errors
    /// A set whose pictures are no files of their own; a picture that cannot be read; shards that are there already, or that the
    /// disk does not take.
    pub fn pack(&self, packing: &Packing, watch: &mut dyn FnMut(usize, usize) -> bool) -> Result<Option<Packed>> {
        let Some(Listed { set, .. }) = self.listed(&Part::ALL)? else {
            return Err(Error::invalid(
                "only pictures in files of their own can be packed: a folder, an archive or a list",
            ));
        };
        let PictureSet { parts, files, notes, classes_alone: _ } = set;
        let (files, mut packed) = (Arc::new(files), Packed { notes, ..Packed::default() });
        let classes = sorted_classes(parts.iter().flatten().flat_map(|list| list.classes.iter().map(String::as_str)));
        let total = parts.iter().flatten().map(|list| list.items.len()).sum();
        for (part, list) in Part::ALL.into_iter().zip(parts) {
            let Some(PartList { classes: own, mut items }) = list else { continue };
            let number: Vec<u32> =
                own.iter().map(|name| classes.iter().position(|known| known == name).unwrap_or(0) as u32).collect();
            Random::stream(packing.seed, *b"packing.", part as u64).shuffle(&mut items);
            let (items, labels): (Vec<Item>, Vec<u32>) = items.into_iter().unzip();
            let stored = Stored::new(Arc::clone(&files), items);
            let mut writer = Writer::new(packing, part);
            let mut content = Vec::new();
            for (index, label) in labels.into_iter().enumerate() {
                let (extension, bytes) = packing.picture(&stored, index, &mut content)?;
                let class = &classes[number[label as usize] as usize];
                writer.add(packed.pictures, (extension, bytes), number[label as usize], class)?;
                packed.pictures += 1;
                if !watch(packed.pictures, total) {
                    return Ok(None);
                }
            }
            writer.end_shard()?;
            packed.shards.extend(writer.shards);
            packed.bytes += writer.bytes;
        }
        Ok(Some(packed))
    }
}

impl Packing {
    /// The path of a shard.
    fn path(&self, part: Part, number: usize) -> Result<PathBuf> {
        let place = format!("{}-{number:06}", part.name());
        let text = self.output.to_str().filter(|text| text.matches(PLACE).count() == 1 && text.ends_with(".tar"));
        let expected = "expected a path with one {} and .tar at its end, such as photos-{}.tar";
        let path = PathBuf::from(text.ok_or_else(|| Error::file(&self.output, expected))?.replace(PLACE, &place));
        match path.exists() {
            true => Err(Error::file(path, "there is such a shard already: choose another name, or remove it")),
            false => Ok(path),
        }
    }

    /// How a picture's file is called and what it holds.
    fn picture<'a>(&self, stored: &Stored, index: usize, content: &'a mut Vec<u8>) -> Result<(&'static str, &'a [u8])> {
        let problem = |problem| picture::named(stored.name(index))(problem);
        let shape = stored.shape(index, content)?;
        let least = shape[1].min(shape[2]);
        let to = self.resize.filter(|&side| side < least);
        let Some(to) = to else {
            stored.read(index, content)?;
            let extension = picture::usual_extension(content);
            return Ok((extension.unwrap_or("png"), &content[..]));
        };
        let target = TargetSize::customary([shape[0], 1, 1]);
        let whole = stored.decode(index, target, content)?;
        let extension = picture::usual_extension(content).unwrap_or("png");
        let [channels, height, width] = whole.shape;
        let resized = |side: usize| (side * to + least / 2) / least;
        let [high, wide] = [resized(height), resized(width)];
        let source = crate::data::resample::Source { bytes: &whole.pixels, layout: Layout::Pixels, shape: whole.shape };
        let axes = [(height, high), (width, wide)].map(|(original, resized)| Axis {
            original,
            resized,
            start: 0,
            kept: resized,
        });
        let mut planes = vec![0; channels * high * wide];
        let area = crate::data::augment::Area { top: 0, left: 0, height, width };
        Resampling::default().resample(source, area, axes, Interpolation::Bilinear, &mut planes);
        let (extension, bytes) = encoded(extension, &planes, [channels, high, wide]).map_err(problem)?;
        *content = bytes;
        Ok((extension, &content[..]))
    }
}

/// A resized picture as a JPEG file where it was one, else as PNG.
fn encoded(
    extension: &'static str,
    planes: &[u8],
    shape: [usize; 3],
) -> Result<(&'static str, Vec<u8>), picture::PictureError> {
    #[cfg(feature = "jpeg")]
    if extension == "jpg" {
        let [channels, height, width] = shape;
        let size = height * width;
        let pixels: Vec<u8> = (0..planes.len()).map(|i| planes[i % channels * size + i / channels]).collect();
        let file = crate::data::jpeg::encode(&pixels, shape, QUALITY);
        let reason = |reason| picture::PictureError::Undecodable { format: "JPEG", reason };
        return file.map(|file| (extension, file)).map_err(reason);
    }
    let _ = extension;
    picture::encode_png(shape, planes).map(|file| ("png", file))
}

/// Writes the shards of a part.
struct Writer<'a> {
    packing: &'a Packing,
    part: Part,
    shard: Option<(PathBuf, Builder<AtomicFile>, u64)>,
    shards: Vec<PathBuf>,
    bytes: u64,
}

impl<'a> Writer<'a> {
    fn new(packing: &'a Packing, part: Part) -> Writer<'a> {
        Writer { packing, part, shard: None, shards: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, number: usize, (extension, bytes): (&str, &[u8]), label: u32, class: &str) -> Result<()> {
        let Writer { packing, part, shard, shards, .. } = self;
        if shard.is_none() {
            let path = packing.path(*part, shards.len())?;
            *shard = Some((path.clone(), Builder::new(AtomicFile::create(&path)?), 0));
        }
        let Some((path, tar, size)) = shard else { return Ok(()) };
        let json = serde_json::json!({ "label": class, "cls": label }).to_string();
        let label = label.to_string();
        for (extension, content) in [(extension, bytes), ("cls", label.as_bytes()), ("json", json.as_bytes())] {
            let mut header = Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("{number:08}.{extension}"), content)
                .map_err(Error::io("writing", &*path))?;
            *size += 512 + (content.len() as u64).next_multiple_of(512);
        }
        match *size >= packing.shard_bytes {
            true => self.end_shard(),
            false => Ok(()),
        }
    }

    /// Gives the shard that is under way its name.
    fn end_shard(&mut self) -> Result<()> {
        let Some((path, tar, size)) = self.shard.take() else { return Ok(()) };
        let mut file = tar.into_inner().map_err(Error::io("writing", &path))?;
        file.flush().map_err(Error::io("writing", &path))?;
        file.finish()?;
        self.bytes += size + 1024;
        self.shards.push(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::archive::tests::png;
    use super::*;
    use crate::data::{Sizing, Splits};

    fn photos() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in [("train/a/1.png", 1), ("train/b/2.png", 2), ("train/b/3.png", 3), ("val/b/4.png", 4)] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, png(value)).unwrap();
        }
        folder
    }

    fn packing(folder: &Path, shard_bytes: u64) -> Packing {
        Packing { output: folder.join("photos-{}.tar"), resize: None, shard_bytes, seed: 0 }
    }

    #[test]
    fn what_was_packed_is_read_back() {
        let (folder, out) = (photos(), tempfile::tempdir().unwrap());
        let source = Source::Folder(folder.path().into());
        let packed = source.pack(&packing(out.path(), 4000), &mut |_, _| true).unwrap().unwrap();
        let names: Vec<_> = packed.shards.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["photos-train-000000.tar", "photos-train-000001.tar", "photos-val-000000.tar"]);
        let sizes = packed.shards.iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>();
        assert_eq!((packed.pictures, packed.bytes), (4, sizes));
        let Splits { train, val, .. } = Source::Folder(out.path().into()).load(Sizing::default()).unwrap();
        assert_eq!((train.classes(), train.class_counts()), (&["a", "b"].map(str::to_owned)[..], vec![1, 2]));
        let mut seen: Vec<(u8, u32)> =
            (0..3).map(|index| (train.image(index).unwrap()[0], train.labels()[index])).collect();
        seen.sort_unstable();
        assert_eq!(seen, [(1, 0), (2, 1), (3, 1)]);
        let val = val.unwrap();
        assert_eq!((val.labels(), val.image(0).unwrap()[0]), (&[1][..], 4));
        let again = source.pack(&packing(out.path(), 4000), &mut |_, _| true).unwrap_err().to_string();
        assert!(again.contains("there is such a shard already"), "{again}");
        let wrong = Packing { output: out.path().join("photos.tar"), ..packing(out.path(), 1) };
        assert!(source.pack(&wrong, &mut |_, _| true).unwrap_err().to_string().contains("expected a path with one {}"));
    }

    #[test]
    fn pictures_are_resized_once() {
        let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(folder.path().join("train/a")).unwrap();
        let path = folder.path().join("train/a/1.png");
        crate::data::picture::write_png(&path, [3, 20, 41], &[7; 20 * 41 * 3]).unwrap();
        fs::write(folder.path().join("train/a/2.png"), png(9)).unwrap();
        let packing = Packing { resize: Some(10), ..packing(out.path(), 1 << 20) };
        Source::Folder(folder.path().into()).pack(&packing, &mut |_, _| true).unwrap().unwrap();
        let check = Source::Folder(out.path().into()).check(&|_, _| true).unwrap().unwrap();
        assert_eq!((check.parts[0].sizes, check.unreadable.len()), (Some([[2, 1], [21, 10], [21, 10]]), 0));
    }

    #[test]
    fn what_is_broken_off_leaves_whole_shards_alone() {
        let (folder, out) = (photos(), tempfile::tempdir().unwrap());
        let source = Source::Folder(folder.path().into());
        assert_eq!(source.pack(&packing(out.path(), 4000), &mut |done, _| done < 3).unwrap(), None);
        let names = crate::files::tests::names(out.path());
        assert_eq!(names, ["photos-train-000000.tar"]);
        fs::write(folder.path().join("train/b/5.png"), "no picture").unwrap();
        let error = source.pack(&packing(&out.path().join("none"), 4000), &mut |_, _| true).unwrap_err().to_string();
        assert!(error.contains("create it first") || error.contains("not a PNG"), "{error}");
    }
}
