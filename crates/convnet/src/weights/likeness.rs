//! Which of the zoo's nets some weights were made for, told by names and shapes.

use super::check::{heads, is_counter};
use crate::StateDict;
use crate::zoo::{ZooOptions, models};

/// Smallest share of agreeing tensors that is worth mentioning.
const ENOUGH: f64 = 0.5;

/// How well weights agree with a net of the zoo.
struct Likeness {
    model: &'static str,
    /// Outputs of the net's head in the weights, if that is there.
    classes: Option<usize>,
    /// Tensors of the same name and shape, whatever the number of classes.
    agreeing: usize,
    /// Tensors of either.
    all: usize,
}

impl Likeness {
    fn share(&self) -> f64 {
        self.agreeing as f64 / self.all as f64
    }
}

/// What the weights look like, such as `they look like 'resnet20' with 10 classes`; nothing when they look like no net of
/// the zoo with its default settings. Nets whose weights have the same names and shapes are all named.
pub fn looks_like(weights: &StateDict) -> Option<String> {
    let likenesses: Vec<Likeness> = models().filter_map(|model| likeness(model, weights)).collect();
    let best = likenesses.iter().map(Likeness::share).fold(0.0, f64::max);
    let mut likest = likenesses.iter().filter(|likeness| likeness.share() == best && best >= ENOUGH).peekable();
    let Likeness { classes, agreeing, all, .. } = **likest.peek()?;
    let names = likest.map(|likeness| format!("'{}'", likeness.model)).collect::<Vec<_>>().join(" or ");
    Some(match classes {
        Some(classes) if agreeing == all => format!("they look like {names} with {classes} classes"),
        _ => format!("they look most like {names} ({agreeing} of {all} tensors agree)"),
    })
}

fn likeness(model: &'static crate::zoo::Model, weights: &StateDict) -> Option<Likeness> {
    let net = model.net(&ZooOptions::default()).ok()?;
    let heads = heads(&net);
    let needed = net.needed(false);
    let (mut agreeing, mut absent, mut classes) = (0, 0, None);
    for (name, node, parameter) in net.parameters() {
        match weights.get(&name) {
            None if is_counter(&name) || !needed[node.index()] => {}
            None => absent += 1,
            Some(tensor) if tensor.shape() == parameter.shape => agreeing += 1,
            Some(tensor) if heads.contains(&node) && tensor.shape().get(1..) == parameter.shape.get(1..) => {
                agreeing += 1
            }
            Some(_) => {}
        }
        if heads.first() == Some(&node) {
            classes = classes.or(weights.get(&name).and_then(|tensor| tensor.shape().first().copied()));
        }
    }
    let all = absent + weights.keys().filter(|name| !is_counter(name)).count();
    Some(Likeness { model: model.name, classes, agreeing, all })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::weights::init;
    use crate::zoo::by_name;

    #[test]
    fn every_net_of_the_zoo_is_recognised_with_any_number_of_classes() {
        for model in models() {
            let net = by_name(model.name, &ZooOptions { classes: Some(7), ..ZooOptions::default() }).unwrap();
            let shapes = net.parameters().into_iter().map(|(name, _, p)| (name, Tensor::zeros(p.shape))).collect();
            let text = looks_like(&shapes).unwrap();
            assert!(text.contains(&format!("'{}'", model.name)) && text.ends_with("with 7 classes"), "{text}");
        }
    }

    #[test]
    fn half_of_a_net_is_enough() {
        let mut weights = init(&by_name("cnn", &ZooOptions::default()).unwrap(), 0);
        weights.insert("bn1.num_batches_tracked".into(), Tensor::zeros([]));
        let all = weights.len() - 1;
        weights.remove("bn1.bias");
        let text = looks_like(&weights).unwrap();
        assert_eq!(text, format!("they look most like 'cnn' ({} of {all} tensors agree)", all - 1));
        weights.retain(|name, _| name.starts_with("linear"));
        assert_eq!(looks_like(&weights), None);
        assert_eq!(looks_like(&StateDict::new()), None);
    }
}
