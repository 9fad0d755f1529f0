//! Why a net says what it says: maps of what in a picture speaks for a class.
//!
//! ```
//! use convnet::explain::{Explainer, Method, Question};
//! use convnet::prelude::*;
//!
//! # fn main() -> convnet::Result<()> {
//! // A trained one comes from `Classifier::load(None, "weights.safetensors".as_ref())?`.
//! let classifier = Classifier::untrained(zoo::by_name("resnet20", &zoo::ZooOptions::default())?, 0)?;
//! let mut explainer = Explainer::new(classifier)?;
//! let image = explainer.description().prepare(convnet::predictor::Input::pixels([99; 32 * 32 * 3], 32, 32, 3))?;
//! let explanation = explainer.explain(&image, &Question::new(Method::GradCam))?;
//! // A number for each pixel of the last maps, and brought to the picture's size.
//! assert_eq!(explanation.map.size(), [8, 8]);
//! assert_eq!(explanation.map.resized([32, 32]).values().len(), 32 * 32);
//! # Ok(())
//! # }
//! ```
//!
//! What is explained is the output before softmax. Convolutions are computed directly unless the engine says otherwise, for Winograd's
//! rounding makes gradients jump more often. Gradients are those of inference: norms take their running statistics, dropout
//! does nothing. `tests/explain/peers.py` compares with pytorch-grad-cam and captum.

mod arithmetic;
mod cam;
#[cfg(feature = "plots")]
mod colours;
mod features;
mod field;
#[cfg(feature = "plots")]
mod gallery;
mod input;
mod map;
mod maximize;
mod method;
mod occlusion;
#[cfg(feature = "plots")]
mod overlay;
mod sanity;
mod sets;
#[cfg(feature = "plots")]
mod sheets;
#[cfg(test)]
mod tests;

pub use arithmetic::{Arithmetic, Group};
pub use features::{Features, Filters};
pub use field::{Field, Seen, receptive_field};
#[cfg(feature = "plots")]
pub use gallery::{embedding_map, nearest_sheet, pattern_sheet, strongest_sheet};
pub use map::Map;
pub use maximize::{Ascent, Goal, Pattern};
pub use method::{Baseline, Method};
#[cfg(feature = "plots")]
pub use overlay::{overlay, pixels};
pub use sanity::{LIMIT, Likeness, Sanity};
pub use sets::{Embeddings, Principal, Strong};
#[cfg(feature = "plots")]
pub use sheets::{feature_sheet, field_sheet, filter_sheet};

use crate::classifier::{Classifier, Description};
use crate::evaluate::softmax;
use crate::exec::{self, ConvChoice, Engine, Gradients, Inference};
use crate::net::{Net, NodeId};
use crate::ops::Op;
use crate::{Error, Result, StateDict, Tensor};

/// Multiply-adds of a batch of pictures, about. A caller may stop between two batches, and what a batch takes in memory grows with it;
/// larger ones would be no faster.
const MULTIPLY_ADDS: u64 = 8_000_000_000;
/// Most pictures of a batch, whatever they cost.
const MOST_AT_ONCE: usize = 32;

/// A net that can be asked why.
#[derive(Debug)]
pub struct Explainer {
    description: Description,
    weights: StateDict,
    /// The net up to what softmax takes.
    net: Net,
    engine: Engine,
    /// Pictures that go through the net at once where there are many.
    at_once: usize,
    /// The session of gradients that was used last, and what it is planned for.
    gradients: Option<(Planned, Gradients)>,
    inference: Option<Inference>,
    /// The session with taps that was used last, and the taps.
    tapped: Option<(Vec<String>, Inference)>,
}

/// What a session of gradients is planned for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Planned {
    tap: String,
    batch: usize,
    guided: bool,
}

/// What is asked about a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// How it is to be explained.
    pub method: Method,
    /// The class whose output is explained; the predicted one otherwise.
    pub class: Option<usize>,
    /// The layer whose maps are looked at, for methods that take one: by name or the beginning of a block's (`layer4`); the last
    /// maps otherwise.
    pub layer: Option<String>,
}

impl Question {
    /// A question about the predicted class, by the last maps.
    pub fn new(method: Method) -> Question {
        Question { method, class: None, layer: None }
    }
}

/// What speaks for a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The method.
    pub method: Method,
    /// The class that is explained.
    pub class: usize,
    /// Its output before softmax.
    pub score: f32,
    /// Its probability.
    pub probability: f64,
    /// What the method finds: channels × height × width of the picture, or 1 × height × width of the layer.
    pub attributions: Tensor,
    /// A number for each place: the attributions, the channels merged.
    pub map: Map,
    /// The layer whose maps were looked at, for methods that take one.
    pub layer: Option<String>,
    /// How exact integrated gradients are; of no other method.
    pub completeness: Option<Completeness>,
}

/// Whether integrated gradients add up to what they explain (Sundararajan et al. 2017, proposition 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Completeness {
    /// The sum of all attributions.
    pub sum: f64,
    /// The output for the picture less that for the baseline.
    pub change: f64,
}

impl Completeness {
    /// How far the sum is from the change, as a share of the change.
    pub fn error(&self) -> f64 {
        (self.sum - self.change).abs() / self.change.abs()
    }
}

impl Explainer {
    /// An explainer that computes on all cores of this machine.
    ///
    /// # Errors
    /// As [`Engine::new`] and [`Explainer::with_engine`].
    pub fn new(classifier: Classifier) -> Result<Explainer> {
        Explainer::with_engine(classifier, &Engine::new(0)?)
    }

    /// An explainer that computes on an engine that there is already.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Shape`] when the weights do not fit the net.
    pub fn with_engine(classifier: Classifier, engine: &Engine) -> Result<Explainer> {
        let Classifier { description, weights } = classifier;
        crate::weights::check(description.net(), &weights)?;
        let net = without_softmax(description.net())?;
        // Winograd's rounding turns a hundred times as many ReLUs over, and each is a jump of the gradient.
        let engine = match engine.conv() {
            ConvChoice::Auto => engine.clone().with_conv(ConvChoice::Direct),
            ConvChoice::Direct | ConvChoice::Winograd => engine.clone(),
        };
        let at_once = (MULTIPLY_ADDS / net.table(1).total.macs.max(1)).clamp(1, MOST_AT_ONCE as u64) as usize;
        Ok(Explainer { description, weights, net, engine, at_once, gradients: None, inference: None, tapped: None })
    }

    /// What is done to pictures, and what the classes are called.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The same net with other weights, for what is compared with it.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Shape`] when one is missing or has another shape; nothing has changed then.
    pub fn set_weights(&mut self, weights: StateDict) -> Result<()> {
        crate::weights::check(self.description.net(), &weights)?;
        if let Some((_, gradients)) = &mut self.gradients {
            gradients.set_weights(&weights)?;
        }
        if let Some(inference) = &mut self.inference {
            inference.set_weights(&weights)?;
        }
        self.tapped = None;
        self.weights = weights;
        Ok(())
    }

    /// What in a picture speaks for a class. `image` is what [`Description::prepare`] gives: channels × height × width.
    ///
    /// # Errors
    /// [`Error::Length`] for a picture of another size; [`Error::Label`] for a class that there is not; [`Error::Unknown`] or
    /// [`Error::Layer`] for a layer that there is not or that has no maps; [`Error::Setting`] for a method's settings that cannot
    /// be; [`Error::Invalid`] when the net's output is no number.
    pub fn explain(&mut self, image: &[f32], question: &Question) -> Result<Explanation> {
        self.explain_while(image, question, &mut || true)
    }

    /// The same as [`Explainer::explain`], and calls `goes_on` before each further batch of pictures: SmoothGrad, integrated gradients
    /// and occlusion take many. It may do other work meanwhile, and stops the explanation where it says `false`.
    ///
    /// # Errors
    /// [`Error::Stopped`] where it was stopped; those of [`Explainer::explain`].
    pub fn explain_while(
        &mut self,
        image: &[f32],
        question: &Question,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Explanation> {
        let input @ [_, height, width] = self.description.input();
        exec::check_images(image.len(), input.iter().product(), 1, 1)?;
        question.method.check()?;
        let Question { method, class, ref layer } = *question;
        if method.takes_layer() {
            return self.explain_by_layer(image, method, class, layer.as_deref());
        }
        let output = self.outputs(image, 1)?;
        let class = self.class(&output, class)?;
        let mut completeness = None;
        let attributions = match method {
            Method::GuidedBackprop => self.input_gradient(image, class, true)?,
            Method::InputXGradient => {
                let gradient = self.input_gradient(image, class, false)?;
                gradient.iter().zip(image).map(|(by, x)| by * x).collect()
            }
            Method::SmoothGrad { samples, noise, seed } => {
                self.smooth_grad(image, class, (samples, noise, seed), goes_on)?
            }
            Method::IntegratedGradients { steps, baseline } => {
                let (attributions, found) = self.integrated_gradients(image, class, (steps, baseline), goes_on)?;
                completeness = Some(found);
                attributions
            }
            Method::Occlusion { window, stride, baseline } => {
                self.occlusion(image, class, (window, stride, baseline), goes_on)?
            }
            _ => self.input_gradient(image, class, false)?,
        };
        let map = match method.is_signed() {
            true => Map::merged([height, width], &attributions, |sum, x| sum + x),
            false => Map::merged([height, width], &attributions, |most, x| most.max(x.abs())),
        };
        let channels = attributions.len() / (height * width);
        let attributions = Tensor::new([channels, height, width], attributions);
        Ok(Explanation { completeness, ..explanation(method, class, &output, attributions, map) })
    }

    /// Class activation maps.
    fn explain_by_layer(
        &mut self,
        image: &[f32],
        method: Method,
        class: Option<usize>,
        layer: Option<&str>,
    ) -> Result<Explanation> {
        let node = match layer {
            Some(layer) => exec::find_layer(&self.net, layer)?,
            None => cam::last_maps(&self.net)?,
        };
        let shape = cam::maps_of(&self.net, node)?;
        let name = self.net.node(node).name.clone();
        let session = self.gradients(&name, 1, false)?;
        let output = session.forward(image, 1)?.to_vec();
        let class = self.class(&output, class)?;
        let session = self.gradients(&name, 1, false)?;
        session.backward(&input::one_hot(output.len(), class))?;
        let map = cam::map(method, shape, session.feature(&name)?.1, session.gradient(&name)?.1);
        let attributions = Tensor::new([1, shape[1], shape[2]], map.values().to_vec());
        Ok(Explanation { layer: Some(name), ..explanation(method, class, &output, attributions, map) })
    }

    /// The class that is explained.
    fn class(&self, output: &[f32], wanted: Option<usize>) -> Result<usize> {
        if let Some(class) = output.iter().position(|x| !x.is_finite()) {
            let name = &self.description.classes()[class];
            let problem = format!("the net's output for '{name}' is {}: nothing can be explained by it", output[class]);
            return Err(Error::invalid(problem));
        }
        match wanted {
            Some(label) if label >= output.len() => Err(Error::Label { label, classes: output.len() }),
            Some(class) => Ok(class),
            None => Ok(crate::evaluate::ranking(output)[0]),
        }
    }

    /// The net's outputs before softmax for pictures.
    fn outputs(&mut self, images: &[f32], count: usize) -> Result<Vec<f32>> {
        let inference = match self.inference.take() {
            None => Inference::new(&self.net, &self.engine, count, &self.weights)?,
            Some(inference) if inference.batch() < count => inference.with_batch(count)?,
            Some(inference) => inference,
        };
        Ok(self.inference.insert(inference).run(images, count)?.to_vec())
    }

    /// A session that has the values of layers for a picture.
    fn tapped(&mut self, image: &[f32], layers: &[String]) -> Result<&Inference> {
        let mut session = match self.tapped.take() {
            Some((planned, session)) if planned == layers => session,
            _ => Inference::builder(self.description.net(), &self.weights).taps(layers).build(&self.engine)?,
        };
        session.run(image, 1)?;
        Ok(&self.tapped.insert((layers.to_vec(), session)).1)
    }

    /// A session of gradients by a tap.
    fn gradients(&mut self, tap: &str, batch: usize, guided: bool) -> Result<&mut Gradients> {
        let wanted = Planned { tap: tap.to_owned(), batch, guided };
        let session = match self.gradients.take() {
            Some((planned, session)) if planned == wanted => session,
            _ => {
                let builder = Inference::builder(&self.net, &self.weights).batch(batch).taps([tap]).guided(guided);
                builder.build_gradients(&self.engine)?
            }
        };
        Ok(&mut self.gradients.insert((wanted, session)).1)
    }
}

/// The class of that name, or of that number where none is called so; `#8` is the number 8 in any case.
///
/// # Errors
/// [`Error::Unknown`] when there is neither, [`Error::Label`] for a number that is too large.
pub fn class(description: &Description, text: &str) -> Result<usize> {
    let classes = description.classes();
    if let Some(class) = classes.iter().position(|class| class == text) {
        return Ok(class);
    }
    match text.strip_prefix('#').unwrap_or(text).parse() {
        Ok(class) if class < classes.len() => Ok(class),
        Ok(label) => Err(Error::Label { label, classes: classes.len() }),
        Err(_) => Err(Error::unknown("class", text, classes.iter().map(String::as_str))),
    }
}

/// An explanation of a class, with what belongs to some methods alone left out.
fn explanation(method: Method, class: usize, output: &[f32], attributions: Tensor, map: Map) -> Explanation {
    Explanation {
        method,
        class,
        score: output[class],
        probability: softmax(output)[class],
        attributions,
        map,
        layer: None,
        completeness: None,
    }
}

/// A net up to what its last softmax takes.
fn without_softmax(net: &Net) -> Result<Net> {
    let end = net.nodes().iter().rposition(|node| node.op != Op::Softmax).unwrap_or(0);
    if end + 1 == net.nodes().len() { Ok(net.clone()) } else { up_to(net, NodeId(end)) }
}

/// The net whose output is that of a node.
fn up_to(net: &Net, last: NodeId) -> Result<Net> {
    let mut shorter = Net::new(net.name(), net.input_shape())?;
    for node in &net.nodes()[1..=last.index()] {
        shorter.add(&node.name, node.op.clone(), &node.inputs)?;
    }
    Ok(shorter)
}
