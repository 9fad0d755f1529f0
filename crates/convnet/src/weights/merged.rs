//! Weights that a file keeps in parts: pruned ones as values and a mask, normalised ones as direction and length
//! (Salimans and Kingma 2016, arXiv:1602.07868), those of a spectral norm with the vectors that give the largest singular
//! value (Miyato et al. 2018, arXiv:1802.05957). Each is put together as PyTorch does it in evaluation mode.

use super::problem::Problem;
use crate::{StateDict, Tensor};

/// Puts weights together that lie in parts, and gives the names of those.
///
/// # Errors
/// [`Problem::Parametrized`] for parts that are put together in another way.
pub(super) fn merge(weights: &mut StateDict) -> Result<Vec<String>, Problem> {
    let names: Vec<String> = weights.keys().cloned().collect();
    let mut merged = Vec::new();
    for name in names {
        let Some((whole, parts)) = parts(&name, weights) else { continue };
        let tensor = match &parts {
            Parts::Masked { mask } => masked(&weights[&name], &weights[mask]),
            Parts::Direction { length } => directed(&weights[&name], &weights[length]),
            Parts::Spectral { left, right } => spectral(&weights[&name], &weights[left], &weights[right]),
            Parts::Unknown => None,
        };
        let Some(tensor) = tensor else {
            return Err(Problem::Parametrized {
                tensor: name,
                kind: "computed from others in a way that is not known here",
            });
        };
        for part in parts.names().into_iter().chain([&name]) {
            weights.remove(part);
        }
        weights.insert(whole.clone(), tensor);
        merged.push(whole);
    }
    Ok(merged)
}

/// What a tensor has to be put together with.
enum Parts {
    Masked { mask: String },
    Direction { length: String },
    Spectral { left: String, right: String },
    Unknown,
}

impl Parts {
    fn names(&self) -> Vec<&String> {
        match self {
            Parts::Masked { mask } => vec![mask],
            Parts::Direction { length } => vec![length],
            Parts::Spectral { left, right } => vec![left, right],
            Parts::Unknown => vec![],
        }
    }
}

/// For the name of a part that holds values: the whole's name, and where its other parts lie.
fn parts(name: &str, weights: &StateDict) -> Option<(String, Parts)> {
    let has = |part: &String| weights.contains_key(part);
    let pair = |a: String, b: String| (has(&a) && has(&b)).then_some((a, b));
    if let Some((node, rest)) =
        name.split_once(".parametrizations.").or_else(|| Some(("", name.strip_prefix("parametrizations.")?)))
    {
        let (parameter, part) = rest.rsplit_once('.')?;
        let whole = if node.is_empty() { parameter.to_owned() } else { format!("{node}.{parameter}") };
        let beside = |other: &str| format!("{}{other}", &name[..name.len() - part.len()]);
        return match part {
            "original1" if has(&beside("original0")) => Some((whole, Parts::Direction { length: beside("original0") })),
            "original" => Some(match pair(beside("0._u"), beside("0._v")) {
                Some((left, right)) => (whole, Parts::Spectral { left, right }),
                None => (whole, Parts::Unknown),
            }),
            _ => None,
        };
    }
    if let Some(whole) = name.strip_suffix("_orig") {
        let mask = format!("{whole}_mask");
        if has(&mask) {
            return Some((whole.to_owned(), Parts::Masked { mask }));
        }
        let (left, right) = pair(format!("{whole}_u"), format!("{whole}_v"))?;
        return Some((whole.to_owned(), Parts::Spectral { left, right }));
    }
    let whole = name.strip_suffix("_v").filter(|whole| whole.ends_with("weight"))?;
    let length = format!("{whole}_g");
    (has(&length) && !has(&format!("{whole}_orig"))).then_some((whole.to_owned(), Parts::Direction { length }))
}

fn masked(values: &Tensor, mask: &Tensor) -> Option<Tensor> {
    let product = values.data().iter().zip(mask.data()).map(|(value, mask)| value * mask);
    (values.shape() == mask.shape()).then(|| Tensor::new(values.shape().to_vec(), product.collect()))
}

/// `g · v / |v|`, where the length has one number for each index of one axis, or one in all.
fn directed(direction: &Tensor, length: &Tensor) -> Option<Tensor> {
    let (shape, lengths) = (direction.shape(), length.data());
    let is_single = |&(axis, _): &(usize, &usize)| length.shape().get(axis) == Some(&lengths.len());
    let axis = match lengths.len() {
        1 => None,
        _ => Some(shape.iter().enumerate().find(is_single)?.0),
    };
    let expected = |axis: usize| shape.get(axis) == Some(&lengths.len());
    if axis.is_some_and(|axis| !expected(axis)) {
        return None;
    }
    let inner: usize = axis.map_or(1, |axis| shape[axis + 1..].iter().product());
    let index = |at: usize| axis.map_or(0, |_| at / inner % lengths.len());
    let mut squares = vec![0.0; lengths.len()];
    for (at, &value) in direction.data().iter().enumerate() {
        squares[index(at)] += f64::from(value).powi(2);
    }
    let scaled = |(at, &value): (usize, &f32)| {
        let at = index(at);
        (f64::from(lengths[at]) * f64::from(value) / squares[at].sqrt()) as f32
    };
    Some(Tensor::new(shape.to_vec(), direction.data().iter().enumerate().map(scaled).collect()))
}

/// `W / (uᵀ W v)`, with W as a matrix of its first axis and all others.
fn spectral(values: &Tensor, left: &Tensor, right: &Tensor) -> Option<Tensor> {
    let (rows, columns) = (left.data().len(), right.data().len());
    if values.shape().first() != Some(&rows) || rows.checked_mul(columns) != Some(values.data().len()) || columns == 0 {
        return None;
    }
    let product =
        |row: &[f32]| -> f64 { row.iter().zip(right.data()).map(|(&w, &v)| f64::from(w) * f64::from(v)).sum() };
    let sigma: f64 = values.data().chunks(columns).zip(left.data()).map(|(row, &u)| f64::from(u) * product(row)).sum();
    let scaled = values.data().iter().map(|&value| (f64::from(value) / sigma) as f32);
    Some(Tensor::new(values.shape().to_vec(), scaled.collect()))
}
