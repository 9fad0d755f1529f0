//! Shards in WebDataset's form from any set of pictures in files: tars of samples, each a picture (`.jpg`, `.png`, …), the number of
//! its class (`.cls`) and its name (`.json`, field `label`), in an order that the seed decides. A sample is called as its picture's
//! file. Pictures are kept as they are, or resized once.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use tar::{Builder, Header};

use super::list::Absent;
use super::picture_set::{LeftOut, PartList, PictureSet, sorted_classes};
use super::{Part, Source};
use crate::data::TargetSize;
use crate::data::picture;
use crate::data::resample::{Layout, Resampling};
use crate::data::resize::{Axis, Interpolation};
use crate::data::stored::{Item, Opened, Stored};
use crate::files::AtomicFile;
use crate::random::Random;
use crate::{Error, Result};

/// What in the name of a shard stands for its part and number.
const PLACE: &str = "{}";
/// Bytes of a key, without the number behind it: with that and an ending it fits into a header.
const STEM: usize = 80;
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
    /// Whether every picture is decoded, and those that cannot be are left out; else one that cannot be read is an error.
    pub skip_bad: bool,
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
    /// What was noticed as the pictures were listed and read.
    pub notes: Vec<String>,
    /// Pictures that were left out.
    pub left_out: Vec<LeftOut>,
}

impl Source {
    /// Writes shards, each whole or not at all. `watch` is told how many pictures of how many are done, and can break off; the
    /// shards that are complete stay then, and there is no result.
    ///
    /// # Errors
    /// A set whose pictures are no files of their own; a picture that cannot be read, unless these are left out; a part without
    /// a picture that can be; shards that are there already, or that the disk does not take.
    pub fn pack(&self, packing: &Packing, watch: &mut dyn FnMut(usize, usize) -> bool) -> Result<Option<Packed>> {
        let absent = if packing.skip_bad { Absent::Kept } else { Absent::Refused };
        let Some(set) = self.listed(&Part::ALL, absent)? else {
            return Err(Error::invalid(
                "only pictures in files of their own can be packed: a folder, an archive or a list",
            ));
        };
        let PictureSet { parts, files, notes, classes_alone: _ } = set;
        let (files, mut packed) = (Arc::new(files), Packed { notes, ..Packed::default() });
        let classes = sorted_classes(parts.iter().flatten().flat_map(|list| list.classes.iter().map(String::as_str)));
        let total = parts.iter().flatten().map(|list| list.items.len()).sum();
        let mut keys = Keys::default();
        for (part, list) in Part::ALL.into_iter().zip(parts) {
            let Some(PartList { classes: own, mut items }) = list else { continue };
            let number: Vec<u32> =
                own.iter().map(|name| classes.iter().position(|known| known == name).unwrap_or(0) as u32).collect();
            Random::stream(packing.seed, *b"packing.", part as u64).shuffle(&mut items);
            let (items, labels): (Vec<Item>, Vec<u32>) = items.into_iter().unzip();
            let stored = Stored::new(Arc::clone(&files), items);
            let mut writer = Writer::new(packing, part);
            let (mut content, mut opened, before) = (Vec::new(), Opened::default(), packed.pictures);
            for (index, label) in labels.iter().enumerate() {
                let name = stored.name_of(index, &mut opened);
                match packing.picture(&stored, index, &mut content) {
                    Ok(picture) => {
                        let number = number[*label as usize];
                        writer.add(&keys.of(&name), picture, number, &classes[number as usize])?;
                        packed.pictures += 1;
                    }
                    Err(error) if packing.skip_bad && !error.is_of_the_system() => {
                        packed.left_out.push(LeftOut::new(part, index, name, &error));
                    }
                    Err(error) => return Err(error),
                }
                if !watch(packed.pictures + packed.left_out.len(), total) {
                    return Ok(None);
                }
            }
            if packed.pictures == before && !labels.is_empty() {
                let (part, all) = (part.name(), labels.len());
                let problem = format!("no picture of the part {part} can be used, of {all}");
                return Err(Error::file(self.origin(), problem));
            }
            writer.end_shard()?;
            packed.shards.extend(writer.shards);
            packed.bytes += writer.bytes;
        }
        packed.notes.extend(LeftOut::note(&packed.left_out));
        Ok(Some(packed))
    }
}

/// What samples are called: each as its picture's file, and with a number behind it where that name is taken.
#[derive(Default)]
struct Keys(HashMap<String, usize>);

impl Keys {
    /// The key of the picture of this name, which no other has.
    fn of(&mut self, name: &str) -> String {
        let stem = stem(name);
        let mut key = stem.clone();
        while self.0.contains_key(&key) {
            let count = self.0.entry(stem.clone()).or_insert(1);
            *count += 1;
            key = format!("{stem}-{count}");
        }
        self.0.insert(key.clone(), 1);
        key
    }
}

/// The name of a picture's file without its ending. A key ends at its first dot, so other dots become underscores.
fn stem(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let stem = &stem[..stem.floor_char_boundary(STEM)];
    match stem {
        "" => "picture".to_owned(),
        stem => stem.replace(|letter: char| letter == '.' || letter.is_control(), "_"),
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
            match self.skip_bad {
                true => _ = stored.decode(index, TargetSize::customary([3, 1, 1]), content)?,
                false => stored.read(index, content)?,
            }
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

    fn add(&mut self, key: &str, (extension, bytes): (&str, &[u8]), label: u32, class: &str) -> Result<()> {
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
            tar.append_data(&mut header, format!("{key}.{extension}"), content)
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
        Packing { output: folder.join("photos-{}.tar"), resize: None, shard_bytes, seed: 0, skip_bad: false }
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

    #[test]
    fn bad_pictures_can_be_left_out() {
        let (folder, out) = (photos(), tempfile::tempdir().unwrap());
        let whole = png(5);
        fs::write(folder.path().join("train/b/5.png"), &whole[..whole.len() / 2]).unwrap();
        let source = Source::Folder(folder.path().into());
        let pack = |skip_bad, seen: &mut usize| {
            let packing = Packing { skip_bad, ..packing(out.path(), 4000) };
            source.pack(&packing, &mut |done, all| {
                *seen = all - done;
                true
            })
        };
        let mut left = 1;
        let packed = pack(true, &mut left).unwrap().unwrap();
        assert_eq!((packed.pictures, packed.left_out.len(), left), (4, 1, 0));
        assert!(packed.left_out[0].name.ends_with("b/5.png"), "{:?}", packed.left_out);
        assert!(packed.notes[0].starts_with("left out: 1 picture that cannot be used: "), "{:?}", packed.notes);
        let train = Source::Folder(out.path().into()).load(Sizing::default()).unwrap().train;
        let mut names: Vec<String> = (0..3).map(|index| train.image_name(index)).collect();
        names.sort_by_key(|name| Path::new(name).file_name().map(ToOwned::to_owned));
        let is_numbered = |(name, number): (&String, u32)| Path::new(name).ends_with(format!("{number}.png"));
        assert!(names.iter().zip(1..).all(is_numbered), "{names:?}");
        fs::write(folder.path().join("val/b/4.png"), "no picture").unwrap();
        packed.shards.iter().for_each(|shard| fs::remove_file(shard).unwrap());
        let message = pack(true, &mut left).unwrap_err().to_string();
        assert!(message.ends_with("no picture of the part val can be used, of 1"), "{message}");
    }

    #[test]
    fn keys_are_the_names_of_files_and_unique() {
        let mut keys = Keys::default();
        let names = ["a/x.png", "b/x.jpg", "c/x-2.png", "d\\x.png", "x", "v1.0/a.b\u{7}c.png", ".png", "é.tar/é.png"];
        let found = names.map(|name| keys.of(name));
        assert_eq!(found, ["x", "x-2", "x-2-2", "x-3", "x-4", "a_b_c", "picture", "é"]);
        assert_eq!(keys.of(&format!("{}.png", "é".repeat(99))), "é".repeat(STEM / 2));
    }
}
