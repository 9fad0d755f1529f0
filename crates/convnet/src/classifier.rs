//! A classifier is a net with its weights and all that is needed to use it: what is done to a picture, and what the classes
//! are called. That description travels in the metadata of the weights' file, so nobody has to remember it.
//!
//! ```
//! use convnet::classifier::{Classifier, Description};
//! use convnet::{weights, zoo};
//!
//! # fn main() -> convnet::Result<()> {
//! # let folder = std::env::temp_dir().join(format!("convnet-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder).map_err(convnet::Error::io("making", &folder))?;
//! # let path = folder.join("cats.safetensors");
//! // Weights of a network with two classes of one's own.
//! let net = zoo::by_name("cnn", &zoo::ZooOptions { classes: Some(2), ..Default::default() })?;
//! let weights = weights::init(&net, 0);
//! let description = Description::customary(net)?.with_classes(vec!["cat".into(), "dog".into()])?;
//! let checkpoint = weights::Checkpoint { metadata: description.metadata(), weights, ..Default::default() };
//! checkpoint.save(&path)?;
//!
//! // Whoever has the file has all.
//! let classifier = Classifier::load(None, &path)?;
//! assert_eq!(classifier.description.classes(), ["cat", "dog"]);
//! assert_eq!(classifier.description.input(), [1, 28, 28]);
//! # std::fs::remove_dir_all(folder).unwrap();
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::json;

use crate::data::{Dataset, Normalization, Preprocessing, Preset, TargetSize, preset};
use crate::net::Net;
#[cfg(feature = "onnx")]
use crate::ops::PictureSize;
use crate::ops::Shape;
use crate::train::RunFolder;
use crate::weights::{self, Checkpoint, Fitting, NetChoice, Note, Ready};
use crate::{Error, Result, StateDict, Tensor};

/// Metadata key of the net, in its text form.
pub const NET_KEY: &str = "net";
/// Metadata key of the classes' names, a JSON list.
const CLASSES_KEY: &str = "classes";
/// Metadata key of the preprocessing, as JSON.
const PREPROCESSING_KEY: &str = "preprocessing";
/// Its key in older files, which knew the normalisation alone.
const NORMALIZATION_KEY: &str = "normalization";

/// What a classifier does, apart from its weights.
#[derive(Clone, Debug)]
pub struct Description {
    net: Net,
    input: [usize; 3],
    preprocessing: Preprocessing,
    classes: Vec<String>,
    assumed: Assumed,
}

/// What nobody has said of a net, so that it is what is customary.
#[derive(Clone, Copy, Debug, Default)]
struct Assumed {
    preprocessing: bool,
    classes: bool,
}

/// A net that can be used.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// What it does.
    pub description: Description,
    /// With which parameters and buffers.
    pub weights: StateDict,
}

impl Description {
    /// Checks that the net turns pictures that are prepared so into these classes.
    ///
    /// # Errors
    /// [`Error::Length`] when its outputs are not as many as the classes, [`Error::Setting`] when its input is no picture or
    /// the preprocessing cannot be done.
    pub fn new(net: Net, preprocessing: Preprocessing, classes: Vec<String>) -> Result<Description> {
        let input = picture_shape(&net)?;
        preprocessing.check(input)?;
        match net.output_shape() {
            Shape::Vector(outputs) if outputs == classes.len() => {
                Ok(Description { net, input, preprocessing, classes, assumed: Assumed::default() })
            }
            output => {
                let of = format!("classes for net '{}', which has an output for each", net.name());
                Err(Error::Length { of, expected: output.elements(), found: classes.len() })
            }
        }
    }

    /// For a net that is used as others of its family.
    ///
    /// # Errors
    /// As [`Description::new`].
    pub fn from_preset(net: Net, preset: Preset) -> Result<Description> {
        let preprocessing = preset.preprocessing(picture_shape(&net)?);
        let classes = preset.classes(net.output_shape().elements());
        Description::new(net, preprocessing, classes)
    }

    /// For a net of which nothing more is known: what is customary for its name, its input and its number of classes.
    ///
    /// # Errors
    /// As [`Description::new`].
    pub fn customary(net: Net) -> Result<Description> {
        let (input, outputs) = (picture_shape(&net)?, net.output_shape().elements());
        let preprocessing = preset::preprocessing(net.name(), input, outputs);
        let classes = Preset::of(input, outputs).classes(outputs);
        let assumed = Assumed { preprocessing: true, classes: true };
        Ok(Description { assumed, ..Description::new(net, preprocessing, classes)? })
    }

    /// The same with other names for the classes.
    ///
    /// # Errors
    /// As [`Description::new`], when there are more or fewer than the net's outputs.
    pub fn with_classes(self, classes: Vec<String>) -> Result<Description> {
        let assumed = Assumed { classes: false, ..self.assumed };
        Ok(Description { assumed, ..Description::new(self.net, self.preprocessing, classes)? })
    }

    /// The same with other preprocessing.
    ///
    /// # Errors
    /// As [`Description::new`], when it cannot be done for the net's input.
    pub fn with_preprocessing(self, preprocessing: Preprocessing) -> Result<Description> {
        let assumed = Assumed { preprocessing: false, ..self.assumed };
        Ok(Description { assumed, ..Description::new(self.net, preprocessing, self.classes)? })
    }

    /// The net.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Channels, height and width of a picture.
    pub fn input(&self) -> [usize; 3] {
        self.input
    }

    /// What is done to a picture.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Whether nobody has said so: it is what is customary for the net.
    pub fn is_assumed(&self) -> bool {
        self.assumed.preprocessing
    }

    /// Its last part: from pixels to what the net takes.
    pub fn normalization(&self) -> &Normalization {
        &self.preprocessing.normalization
    }

    /// What pictures are brought to as they are read.
    pub fn target(&self) -> TargetSize {
        self.preprocessing.target(self.input)
    }

    /// What each class is called.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Checks that pictures of this data set can be shown to the net, and their labels compared with what it says.
    ///
    /// # Errors
    /// [`Error::Shape`] for pictures of another size, [`Error::Length`] for another number of classes, [`Error::Invalid`] when
    /// there are no pictures.
    pub fn check_data(&self, data: &Dataset) -> Result<()> {
        let (net, name) = (self.net.name(), data.name());
        if data.is_empty() {
            return Err(Error::invalid(format!("data set '{name}': expected at least one picture")));
        }
        if data.shape() != self.input {
            let of = format!("pictures of data set '{name}' for net '{net}'");
            return Err(Error::Shape { of, expected: self.input.to_vec(), found: data.shape().to_vec() });
        }
        if data.classes().len() != self.classes.len() {
            let of = format!("classes of data set '{name}' for net '{net}'");
            return Err(Error::Length { of, expected: self.classes.len(), found: data.classes().len() });
        }
        Ok(())
    }

    /// The description as a checkpoint's metadata.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (NET_KEY.into(), self.net.to_toml()),
            (CLASSES_KEY.into(), json!(self.classes).to_string()),
            (PREPROCESSING_KEY.into(), json!(self.preprocessing).to_string()),
        ])
    }

    /// What [`Description::metadata`] wrote, for `net` or else for the net that the metadata describe; what they lack
    /// is as in [`Description::customary`].
    pub(crate) fn from_metadata(net: Option<Net>, metadata: &BTreeMap<String, String>) -> Result<Description> {
        let net = net.map_or_else(|| own_net(metadata), Ok)?;
        let Description { net, preprocessing, classes, .. } = Description::customary(net)?;
        let named: Option<Vec<String>> = parsed(metadata, CLASSES_KEY)?;
        let own = parsed(metadata, PREPROCESSING_KEY)?;
        let own = if own.is_some() { own } else { parsed(metadata, NORMALIZATION_KEY)? };
        let assumed = Assumed { preprocessing: own.is_none(), classes: named.is_none() };
        let (preprocessing, classes) = (own.unwrap_or(preprocessing), named.unwrap_or(classes));
        Ok(Description { assumed, ..Description::new(net, preprocessing, classes)? })
    }
}

/// Channels, height and width of the pictures that a net takes.
fn picture_shape(net: &Net) -> Result<[usize; 3]> {
    match net.input_shape() {
        Shape::Map(input) => Ok(input),
        Shape::Vector(length) => Err(Error::setting(
            "input",
            "channels, height and width",
            format_args!("net '{}' with {length}", net.name()),
        )),
    }
}

/// The net that metadata describe.
fn own_net(metadata: &BTreeMap<String, String>) -> Result<Net> {
    let text = metadata.get(NET_KEY).ok_or_else(|| Error::from(weights::Problem::UnknownNet { likeness: None }))?;
    Net::from_toml(text).map_err(|error| Error::Metadata { key: NET_KEY, problem: error.to_string() })
}

/// Removes what another program has written under keys that mean something else here.
fn keep_sound(metadata: &mut BTreeMap<String, String>, net: &Net) {
    if parsed::<Vec<String>>(metadata, CLASSES_KEY).is_err() {
        metadata.remove(CLASSES_KEY);
    }
    for key in [PREPROCESSING_KEY, NORMALIZATION_KEY] {
        let named = parsed::<Preprocessing>(metadata, key).ok().flatten();
        if !named.is_some_and(|named| picture_shape(net).is_ok_and(|input| named.check(input).is_ok())) {
            metadata.remove(key);
        }
    }
}

/// The JSON under a key, if it is there.
fn parsed<T: DeserializeOwned>(metadata: &BTreeMap<String, String>, key: &'static str) -> Result<Option<T>> {
    let parse = |text: &String| serde_json::from_str(text).map_err(|e| Error::Metadata { key, problem: e.to_string() });
    metadata.get(key).map(parse).transpose()
}

/// Where each of these names stands among the others, if they are the same names; equal ones keep their order.
fn places(names: &[String], others: &[String]) -> Option<Vec<usize>> {
    let sorted = |names: &[String]| {
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by_key(|&at| &names[at]);
        order
    };
    let (to, from) = (sorted(names), sorted(others));
    let same = to.len() == from.len() && to.iter().zip(&from).all(|(&to, &from)| names[to] == others[from]);
    let mut places = vec![0; to.len()];
    to.iter().zip(&from).for_each(|(&to, &from)| places[to] = from);
    same.then_some(places)
}

/// A tensor of some others' rows, those at these places.
fn rows(tensor: &Tensor, places: &[usize]) -> Tensor {
    let length = tensor.shape()[1..].iter().product();
    let row = |&place: &usize| &tensor.data()[place * length..][..length];
    Tensor::new(tensor.shape(), places.iter().flat_map(row).copied().collect())
}

impl Classifier {
    /// A net with initial weights, used as is customary for it.
    ///
    /// # Errors
    /// As [`Description::new`].
    ///
    /// ```
    /// use convnet::prelude::*;
    /// let classifier = Classifier::untrained(zoo::cnn(&zoo::Cnn::default())?, 0)?;
    /// assert_eq!(classifier.description.classes().len(), 10);
    /// # Ok::<(), convnet::Error>(())
    /// ```
    pub fn untrained(net: Net, seed: u64) -> Result<Classifier> {
        let weights = weights::init(&net, seed);
        Ok(Classifier { description: Description::customary(net)?, weights })
    }

    /// The same for pictures of another shape, which are resized in the same proportion.
    ///
    /// # Errors
    /// A net that cannot take them, or whose weights depend on the pictures' size.
    pub fn with_input(self, input: [usize; 3]) -> Result<Classifier> {
        if self.description.input == input {
            return Ok(self);
        }
        let Description { net, input: before, preprocessing, assumed, classes } = self.description;
        let net = net.with_input(Shape::Map(input))?;
        weights::check(&net, &self.weights)?;
        let preprocessing = preprocessing.for_input(before, input);
        Ok(Classifier {
            description: Description { assumed, ..Description::new(net, preprocessing, classes)? },
            ..self
        })
    }

    /// The same for other classes. The layers that give the classes' outputs keep their weights where the classes are the same,
    /// in the new order, and where they are as many and nobody has named them. Else these layers are initialised; the names of
    /// their parameters are told.
    ///
    /// # Errors
    /// As [`Net::with_classes`].
    pub fn with_classes(self, classes: Vec<String>, seed: u64) -> Result<(Classifier, Vec<String>)> {
        let Classifier { description, mut weights } = self;
        let nameless = description.assumed.classes && description.classes.len() == classes.len();
        if nameless || description.classes == classes {
            return Ok((Classifier { description: description.with_classes(classes)?, weights }, Vec::new()));
        }
        let net = description.net.with_classes(classes.len())?;
        let heads = net.heads()?;
        let of_heads = net.parameters().into_iter().filter(|(_, node, _)| heads.contains(node));
        let mut names: Vec<String> = of_heads.map(|(name, ..)| name).collect();
        if let Some(places) = places(&classes, &description.classes) {
            for name in names.drain(..) {
                let tensor = weights.get_mut(&name).ok_or_else(|| Error::invalid(format!("no tensor '{name}'")))?;
                *tensor = rows(tensor, &places);
            }
        } else {
            let initial = weights::init(&net, seed);
            weights.extend(initial.into_iter().filter(|(name, _)| names.contains(name)));
        }
        names.sort();
        let description = Description { net, ..description }.with_classes(classes)?;
        Ok((Classifier { description, weights }, names))
    }

    /// The net of an ONNX file, used as its metadata say, or else as is customary for a net of the file's name.
    #[cfg(feature = "onnx")]
    fn of_onnx(path: &Path, input: Option<PictureSize>) -> Result<(Classifier, Vec<Note>)> {
        let imported = crate::onnx::read(path, &crate::onnx::Options { input })?;
        let crate::onnx::Imported { net, weights, mut metadata, usual, takes_bytes, assumed } = imported;
        keep_sound(&mut metadata, &net);
        weights::check_finite(&weights).map_err(|error| error.in_file(path))?;
        let description = Description::from_metadata(Some(net), &metadata).map_err(|error| error.in_file(path))?;
        let mut notes: Vec<Note> = assumed.into_iter().map(Note::Assumed).collect();
        let Description { net, input, preprocessing, classes, assumed } = description;
        let preprocessing = match assumed.preprocessing {
            true if takes_bytes => {
                notes.push(Note::Assumed("pixels from 0 to 255, as it takes bytes".into()));
                Preprocessing { normalization: Normalization::bytes(input[0]), ..preprocessing }
            }
            true => preprocessing,
            false => preprocessing.for_input(usual, input),
        };
        // Ten outputs may be any ten classes; a thousand are ImageNet's.
        let classes = match Preset::of(input, classes.len()) {
            _ if !assumed.classes => classes,
            Preset::ImageNet => {
                notes.push(Note::Assumed("the names of ImageNet's 1000 classes".into()));
                classes
            }
            Preset::Lecture | Preset::Cifar10 | Preset::Cifar100 => Preset::Lecture.classes(classes.len()),
        };
        let description = Description { net, input, preprocessing, classes, assumed };
        Ok((Classifier { description, weights }, notes))
    }

    /// Reads weights from a file of any form, for `net` or else for the net that the file describes.
    ///
    /// # Errors
    /// As [`Classifier::open`].
    pub fn load(net: Option<Net>, path: &Path) -> Result<Classifier> {
        let choice = net.map_or(NetChoice::Own, NetChoice::Net);
        Ok(Classifier::open(path, &choice, &Fitting::default())?.0)
    }

    /// Reads weights from a file of any form and makes them fit a net; also what is worth telling of how (see [`Note`]). An ONNX
    /// file brings its own net. Names of classes that are not as many as the outputs of the net are passed over.
    ///
    /// # Errors
    /// As [`Checkpoint::load`](weights::Checkpoint::load); [`Error::Weights`] when there is no net, the weights do not fit it,
    /// or they hold NaN or infinity; [`Error::Unknown`] for layers to ignore that there are not.
    pub fn open(path: &Path, choice: &NetChoice, fitting: &Fitting) -> Result<(Classifier, Vec<Note>)> {
        #[cfg(feature = "onnx")]
        if matches!(choice, NetChoice::Own) && crate::onnx::is_model(path)? {
            return Classifier::of_onnx(path, fitting.input);
        }
        let in_file = |error: Error| error.in_file(path);
        let own = |checkpoint: &Checkpoint| match checkpoint.metadata.contains_key(NET_KEY) {
            true => own_net(&checkpoint.metadata).map(Some),
            false => Ok(None),
        };
        let Ready { net, checkpoint, weights, notes } = weights::ready(path, choice, fitting, own)?;
        let is_own = own(&checkpoint).is_ok_and(|net| net.is_some());
        let mut metadata = checkpoint.metadata;
        if !is_own {
            keep_sound(&mut metadata, &net);
        }
        let classes: Option<Vec<String>> = parsed(&metadata, CLASSES_KEY).map_err(in_file)?;
        if !matches!(choice, NetChoice::Own)
            && classes.is_some_and(|classes| classes.len() != net.output_shape().elements())
        {
            metadata.remove(CLASSES_KEY);
        }
        let description = Description::from_metadata(Some(net), &metadata).map_err(in_file)?;
        let classifier = Classifier { description, weights };
        let classifier = match fitting.input.filter(|_| matches!(choice, NetChoice::Own)) {
            Some(size) => {
                let input = size.with_channels(classifier.description.input[0]);
                classifier.with_input(input).map_err(in_file)?
            }
            None => classifier,
        };
        Ok((classifier, notes))
    }

    /// What a run has learned: its best weights, or its last ones when no epoch has ended.
    ///
    /// # Errors
    /// As [`Classifier::load`].
    pub fn of_run(run: &RunFolder) -> Result<Classifier> {
        let weights = Classifier::weights_of_run(run).unwrap_or_else(|| run.best_safetensors());
        Classifier::load(None, &weights)
    }

    /// The file that [`Classifier::of_run`] reads, once there is one.
    pub fn weights_of_run(run: &RunFolder) -> Option<PathBuf> {
        [run.best_safetensors(), run.last_safetensors()].into_iter().find(|weights| weights.exists())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{init, safetensors};
    use crate::zoo::{Cnn, cnn};

    fn small() -> Net {
        cnn(&Cnn { cdims: vec![2], hdims: vec![], ydim: 2, ..Cnn::default() }).unwrap()
    }

    fn names() -> Vec<String> {
        ["cat", "dog \"x\""].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_file_says_all_that_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let normalization = Normalization { mean: vec![0.1307], std: vec![0.3081] };
        let preprocessing = Preprocessing { resize: Some(32), ..Preprocessing::new([1, 28, 28], normalization) };
        let description = Description::new(small(), preprocessing.clone(), names()).unwrap();
        let weights = init(&small(), 0);
        let metadata = description.metadata();
        Checkpoint { weights: weights.clone(), metadata, ..Checkpoint::default() }.save(&path).unwrap();
        let loaded = Classifier::load(None, &path).unwrap();
        assert_eq!((loaded.weights, loaded.description.preprocessing()), (weights, &preprocessing));
        assert_eq!(
            (loaded.description.classes(), loaded.description.net().to_toml()),
            (&names()[..], small().to_toml())
        );
        let other = cnn(&Cnn { cdims: vec![3], hdims: vec![], ydim: 2, ..Cnn::default() }).unwrap();
        let message = Classifier::load(Some(other), &path).unwrap_err().to_string();
        assert!(message.contains("of another shape"), "{message}");
        let expected = "The file belongs to a net 'cnn' for pictures of 1x28x28 in 2 classes, which it describes: to use that, name no net";
        assert!(message.ends_with(expected), "{message}");
        // Pictures of another kind are no news where the weights are another net's.
        let coloured = cnn(&Cnn { xdim: [3, 32, 32], ..Cnn::default() }).unwrap();
        let message = Classifier::load(Some(coloured), &path).unwrap_err().to_string();
        assert!(message.contains("the weights do not fit") && message.ends_with(expected), "{message}");
    }

    #[test]
    fn foreign_weights_need_a_net() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        safetensors::write(&path, &init(&small(), 0), &BTreeMap::new()).unwrap();
        let message = Classifier::load(None, &path).unwrap_err().to_string();
        assert!(message.contains("w.safetensors: the file does not say"), "{message}");
        let loaded = Classifier::load(Some(small()), &path).unwrap();
        assert_eq!(loaded.description.classes(), ["0", "1"]);
        safetensors::write(&path, &init(&cnn(&Cnn::default()).unwrap(), 0), &BTreeMap::new()).unwrap();
        let message = Classifier::load(None, &path).unwrap_err().to_string();
        assert!(message.ends_with("belong to; they look like 'cnn' with 10 classes"), "{message}");
        // Classes that nobody has named are not known to be others.
        let (tuned, replaced) = loaded.clone().with_classes(names(), 1).unwrap();
        assert!(replaced.is_empty() && tuned.weights == loaded.weights);
        let named = loaded.description.with_classes(names()).unwrap();
        assert_eq!(named.classes(), names());
        let error = named.with_classes(vec!["one".into()]).unwrap_err();
        assert!(matches!(error, Error::Length { expected: 2, found: 1, .. }));
    }

    #[test]
    fn another_number_of_classes_when_the_head_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let normalization = Normalization { mean: vec![0.1307], std: vec![0.3081] };
        let metadata = Description::new(small(), Preprocessing::new([1, 28, 28], normalization.clone()), names())
            .unwrap()
            .metadata();
        safetensors::write(&path, &init(&small(), 4), &metadata).unwrap();
        let three = cnn(&Cnn { cdims: vec![2], hdims: vec![], ydim: 3, ..Cnn::default() }).unwrap();
        assert!(Classifier::load(Some(three.clone()), &path).is_err());
        let ignoring = |net: Option<Net>, layer: &str| {
            let fitting = Fitting { ignored: vec![layer.to_owned()], ..Fitting::default() };
            Classifier::open(&path, &net.map_or(NetChoice::Own, NetChoice::Net), &fitting)
        };
        let (loaded, notes) = ignoring(Some(three), "head").unwrap();
        assert_eq!(notes, [Note::Initial(["head.weight", "head.bias"].map(str::to_owned).to_vec())]);
        assert_eq!(loaded.description.classes(), ["0", "1", "2"]);
        assert_eq!(loaded.description.normalization(), &normalization);
        let (loaded, notes) = ignoring(Some(small()), "head").unwrap();
        assert_eq!((loaded.description.classes(), notes.len()), (&names()[..], 0));
        let message = ignoring(None, "haed").unwrap_err().to_string();
        assert!(message.contains("has no layer 'haed': did you mean 'head'?"), "{message}");
    }

    /// Files of before, which know nothing of resizing.
    #[test]
    fn older_files_name_a_normalization() {
        let text = "{\"mean\": [0.5], \"std\": [0.25]}";
        let metadata = BTreeMap::from([(NORMALIZATION_KEY.to_owned(), text.to_owned())]);
        let description = Description::from_metadata(Some(small()), &metadata).unwrap();
        assert_eq!(description.normalization(), &Normalization { mean: vec![0.5], std: vec![0.25] });
        assert_eq!(description.target(), TargetSize::exactly([1, 28, 28]));
    }

    #[test]
    fn lying_metadata_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        for (key, value, expected) in [
            (PREPROCESSING_KEY, "{\"mean\": [0], \"std\": [1], \"resize\": 27}", "expected 28"),
            (PREPROCESSING_KEY, "{\"mean\": [0], \"std\": [1], \"resize\": -1}", "metadata 'preprocessing'"),
            (PREPROCESSING_KEY, "{\"mean\": [0, 0], \"std\": [1]}", "for each of 1 channels, got 2 means"),
            (CLASSES_KEY, "[\"a\"]", "an output for each: expected 2, got 1"),
            (CLASSES_KEY, "cat", "metadata 'classes': expected value"),
            (NORMALIZATION_KEY, "{\"mean\": [0], \"std\": [0]}", "deviation above 0"),
            (NET_KEY, "input = 3", "metadata 'net'"),
        ] {
            let metadata =
                BTreeMap::from([(NET_KEY.to_owned(), small().to_toml()), (key.to_owned(), value.to_owned())]);
            safetensors::write(&path, &init(&small(), 0), &metadata).unwrap();
            let message = Classifier::load(None, &path).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn data_must_fit() {
        let description = Description::customary(small()).unwrap().with_classes(names()).unwrap();
        let problem = |shape: [usize; 3], labels: Vec<u32>, classes| {
            let pixels = vec![0; shape.iter().product::<usize>() * labels.len()];
            let data = Dataset::new("t", shape, pixels, labels, classes).unwrap();
            description.check_data(&data).map_err(|error| error.to_string())
        };
        assert_eq!(problem([1, 28, 28], vec![1], names()), Ok(()));
        assert!(problem([1, 28, 28], vec![], names()).unwrap_err().contains("at least one picture"));
        let size = problem([1, 28, 27], vec![1], names()).unwrap_err();
        assert_eq!(size, "pictures of data set 't' for net 'cnn': expected shape [1, 28, 28], got [1, 28, 27]");
        let three = vec![String::from("a"); 3];
        let classes = problem([1, 28, 28], vec![1], three).unwrap_err();
        assert_eq!(classes, "classes of data set 't' for net 'cnn': expected 2, got 3");
    }
}
