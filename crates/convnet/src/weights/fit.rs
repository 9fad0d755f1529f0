//! From a file to weights that fit a net: which of the file's weights, under which names, for how many classes and
//! channels. Whatever is done on the way is told ([`Note`]).

use std::path::Path;

use super::check::{check, fitted};
use super::choose::choice_for;
use super::renaming::{Renaming, Shapes, channels, classes, first_kernel, is_below, rename};
use super::{Checkpoint, Fitted, Misfit, Note, Problem, check_finite, looks_like, read_chosen};
use crate::net::Net;
use crate::ops::PictureSize;
use crate::zoo::{Model, ZooOptions};
use crate::{Error, Result, StateDict, Tensor};

/// For which net weights are wanted.
#[derive(Clone, Debug)]
pub enum NetChoice {
    /// The one that the file describes.
    Own,
    /// This one.
    Net(Net),
    /// One of the zoo. The number of classes and the channels of pictures are those of the weights, where the options do not
    /// say them.
    Model(&'static Model, ZooOptions),
}

/// How weights are made to fit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fitting {
    /// Where they lie in the file: under a key (`model_ema`), or behind a part of their names (`encoder_q`).
    pub key: Option<String>,
    /// Layers that need not fit (see [`fitted`]).
    pub ignored: Vec<String>,
    /// The size of pictures for a net that the file describes, in place of its own.
    pub input: Option<PictureSize>,
}

/// Weights that fit a net, and what the file says beside them.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) net: Net,
    /// Everything of the file but the weights, which have been taken out.
    pub(crate) checkpoint: Checkpoint,
    pub(crate) weights: StateDict,
    pub(crate) notes: Vec<Note>,
}

/// Reads weights from a file of any form and makes them fit. `own` gives the net that a file's metadata describe, if they do.
///
/// # Errors
/// As [`Checkpoint::load`]; [`Error::Weights`] when there is no net, the weights do not fit it, or they hold NaN or infinity.
pub(crate) fn ready(
    path: &Path,
    choice: &NetChoice,
    fitting: &Fitting,
    own: impl Fn(&Checkpoint) -> Result<Option<Net>>,
) -> Result<Ready> {
    let named = match choice {
        NetChoice::Own => None,
        NetChoice::Net(net) => Some(net.clone()),
        NetChoice::Model(model, options) => Some(model.net(options)?),
    };
    let (mut within, key) = (None, fitting.key.as_deref());
    let contents = read_chosen(path, &mut |offers| {
        within = key.filter(|key| !offers.iter().any(|offer| offer.is_under(key)));
        match &named {
            Some(net) => choice_for(net, offers, key),
            None => super::choose::default_choice(offers, key),
        }
    })?;
    let in_file = |error: Error| error.in_file(path);
    let (mut checkpoint, mut notes, _) = Checkpoint::from_contents(path, contents)?;
    let mut weights = std::mem::take(&mut checkpoint.weights);
    let unknown = || Error::from(Problem::UnknownNet { likeness: looks_like(&weights) });
    let mut net = match named {
        Some(net) => net,
        None => own(&checkpoint).and_then(|net| net.ok_or_else(unknown)).map_err(in_file)?,
    };
    let shapes: Shapes = weights.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect();
    // With the net that the file describes, where another one is wanted.
    let misfit = |error: Error| {
        let own = own(&checkpoint).ok().flatten().filter(|_| !matches!(choice, NetChoice::Own));
        in_file(with_own(error, own.as_ref()))
    };
    let renamed = |net: &Net, weights: &StateDict| {
        let renaming = rename(net, &shapes, within, &fitting.ignored);
        renaming.map_err(|problem| match of_another(&problem, net, weights) {
            Some(error) => misfit(error),
            None => problem.in_file(path),
        })
    };
    let mut renaming = renamed(&net, &weights)?;
    if let NetChoice::Model(model, options) = choice
        && let Some((options, told)) = measured(&net, &shapes, &renaming, options)
        // What is measured may be absurd; the error is then that of the net as it was.
        && let Ok(other) = model.net(&options)
    {
        net = other;
        renaming = renamed(&net, &weights)?;
        notes.extend(told);
    }
    weights = apply(weights, &renaming);
    notes.extend(renaming.notes);
    notes.extend(drop_auxiliaries(&net, &mut weights));
    notes.extend(adapt_first_kernel(&net, &mut weights));
    // Layers that only the file has have been left already.
    let is_left = |layer: &&String| notes.iter().any(|note| note.is_left_below(layer));
    let in_net = |layer: &str| net.nodes().iter().any(|node| is_below(&node.name, layer));
    let ignored = fitting.ignored.iter().filter(|layer| in_net(layer) || !is_left(layer)).cloned().collect::<Vec<_>>();
    let Fitted { weights, initial } = fitted(&net, weights, &ignored).map_err(misfit)?;
    check_finite(&weights).map_err(in_file)?;
    notes.extend((!initial.is_empty()).then_some(Note::Initial(initial)));
    Ok(Ready { net, checkpoint, weights, notes })
}

/// The error of weights that are plainly another net's: parts of that which are called as this one's are no sets of weights.
fn of_another(problem: &Problem, net: &Net, weights: &StateDict) -> Option<Error> {
    let is_known = matches!(problem, Problem::Several { .. }) && looks_like(weights).is_some();
    if is_known { check(net, weights).err() } else { None }
}

/// Options with what the weights say of classes and channels and the options do not, if the net is another then.
fn measured(net: &Net, shapes: &Shapes, renaming: &Renaming, options: &ZooOptions) -> Option<(ZooOptions, Vec<Note>)> {
    let (mut options, mut notes) = (options.clone(), Vec::new());
    let [own_channels, height, width] = match net.input_shape() {
        crate::ops::Shape::Map(input) => input,
        crate::ops::Shape::Vector(_) => return None,
    };
    if options.classes.is_none()
        && let Some(count) = classes(net, shapes, renaming).filter(|&count| count != net.output_shape().elements())
    {
        options.classes = Some(count);
        notes.push(Note::Classes(count));
    }
    if options.input.is_none()
        && let Some(count) = channels(net, shapes, renaming).filter(|&count| count != own_channels)
    {
        options.input = Some([count, height, width]);
        notes.push(Note::Channels(count));
    }
    (!notes.is_empty()).then_some((options, notes))
}

/// The weights under the net's names, without those that are left.
fn apply(weights: StateDict, renaming: &Renaming) -> StateDict {
    let new = |(name, tensor): (String, Tensor)| Some((renaming.names.get(&name)?.clone()?, tensor));
    weights.into_iter().filter_map(new).collect()
}

/// Removes tensors of auxiliary outputs that are for another number of classes: inference needs none of them.
fn drop_auxiliaries(net: &Net, weights: &mut StateDict) -> Option<Note> {
    let needed = net.needed(false);
    let mut dropped = Vec::new();
    for (name, node, parameter) in net.parameters() {
        let other = |tensor: &Tensor| tensor.shape() != parameter.shape;
        if !needed[node.index()] && weights.get(&name).is_some_and(other) {
            weights.remove(&name);
            dropped.push(name);
        }
    }
    (!dropped.is_empty()).then_some(Note::Left(dropped))
}

/// Makes a first kernel for colour one for grey pictures, which have the same number in each channel: their products are
/// summed. The other way each channel gets a third.
fn adapt_first_kernel(net: &Net, weights: &mut StateDict) -> Option<Note> {
    let name = first_kernel(net)?;
    let (_, _, parameter) = net.parameters().into_iter().find(|(own, ..)| *own == name)?;
    let tensor = weights.get_mut(&name)?;
    let (own, shape) = (parameter.shape, tensor.shape().to_vec());
    let (&[filters, to, height, width], &[other_filters, from, ..]) = (&own[..], &shape[..]) else { return None };
    let same = filters == other_filters && shape.len() == 4 && shape[2..] == own[2..];
    if !same || !matches!((from, to), (3, 1) | (1, 3)) {
        return None;
    }
    let plane = height * width;
    let pixels = |filter: &[f32]| -> Vec<f32> {
        let sums = (0..plane).map(|at| filter.iter().skip(at).step_by(plane).sum::<f32>() / to as f32);
        sums.collect::<Vec<_>>().repeat(to)
    };
    let data = tensor.data().chunks(from * plane).flat_map(pixels).collect();
    *tensor = Tensor::new(own, data);
    Some(Note::Adapted(name, from, to))
}

/// The error about weights of another net, with the net that their file describes.
fn with_own(error: Error, own: Option<&Net>) -> Error {
    match (error, own) {
        (Error::Weights { file, problem }, Some(own)) => {
            let problem = match *problem {
                Problem::Misfit(misfit) => Problem::Misfit(Box::new(Misfit {
                    own: Some(format!(
                        "a net '{}' for pictures of {} in {} classes",
                        own.name(),
                        own.input_shape(),
                        own.output_shape().elements()
                    )),
                    ..*misfit
                })),
                other => other,
            };
            Error::Weights { file, problem: Box::new(problem) }
        }
        (error, _) => error,
    }
}
