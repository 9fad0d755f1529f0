//! Parameters in the layouts that stages read, each kind in one flat buffer.

use super::stage::{Stage, Weights};
use crate::net::{Net, NodeId};
use crate::ops::Role;
use crate::{Error, Result, StateDict, Tensor};
use convnet_kernels::layout::blocks;
use convnet_kernels::memory::Buffer;
use convnet_kernels::simd::LANES;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Range;

/// Where one named tensor lies.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    shape: Vec<usize>,
    pub(super) range: Range<usize>,
    stage: usize,
}

impl Slot {
    /// What packs the tensor; nothing for a number per channel or feature, which lies as it is.
    fn packing<'a>(&self, stages: &'a [Stage]) -> Option<Weights<'a>> {
        let (_, packing) = stages[self.stage].kind.weights()?;
        (self.shape.len() > 1).then_some(packing)
    }
}

/// All tensors of a plan: trained ones in one flat buffer, so that an update is one pass, and the others in a second.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    pub(super) trained: Vec<Slot>,
    pub(super) buffers: Vec<Slot>,
}

/// Whether a parameter is trained.
fn trained(role: Role) -> bool {
    match role {
        Role::Weight | Role::Bias => true,
        Role::Buffer => false,
    }
}

/// Floats of a flat buffer for these slots.
pub(super) fn flat_len(slots: &[Slot]) -> usize {
    slots.last().map_or(0, |slot| slot.range.end)
}

impl Parameters {
    /// Gives a node's tensor a place of `len` floats; its index among its kind.
    pub(super) fn add(&mut self, net: &Net, node: usize, name: &str, stage: usize, len: usize) -> usize {
        let id = NodeId(node);
        let parameter = net.node(id).op.parameters(&net.input_shapes(id)).into_iter().find(|p| p.name == name);
        let parameter = parameter.expect("an operation's parameters do not change");
        let full = format!("{}.{name}", net.node(id).name);
        let slots = if trained(parameter.role) { &mut self.trained } else { &mut self.buffers };
        let start = flat_len(slots);
        let range = start..start + len.next_multiple_of(LANES);
        slots.push(Slot { name: full, shape: parameter.shape, range, stage });
        slots.len() - 1
    }

    /// A tensor of one number per channel or feature, padded to whole blocks.
    pub(super) fn add_vector(&mut self, net: &Net, node: usize, name: &str, stage: usize) -> usize {
        let len = match net.nodes()[node].shape {
            crate::ops::Shape::Map([channels, ..]) => channels,
            crate::ops::Shape::Vector(features) => features,
        };
        self.add(net, node, name, stage, blocks(len) * LANES)
    }
}

/// A flat buffer with every slot's tensor from a state, under its name with `prefix` before it.
pub(super) fn pack<T: Borrow<Tensor>>(
    slots: &[Slot],
    stages: &[Stage],
    prefix: &str,
    state: &BTreeMap<String, T>,
) -> Result<Buffer> {
    let mut flat = Buffer::zeros(flat_len(slots));
    for slot in slots {
        let name = format!("{prefix}{}", slot.name);
        let tensor = state.get(&name).ok_or_else(|| Error::invalid(format!("parameter '{name}' is missing")))?;
        let tensor: &Tensor = tensor.borrow();
        if tensor.shape() != slot.shape {
            let (want, got) = (&slot.shape, tensor.shape());
            return Err(Error::invalid(format!("parameter '{name}': expected shape {want:?}, got {got:?}")));
        }
        let target = &mut flat[slot.range.clone()];
        match slot.packing(stages) {
            Some(Weights::Conv(conv)) => conv.pack_weights(tensor.data(), target),
            Some(Weights::Linear(linear)) => linear.pack_weights(tensor.data(), target),
            None => target[..tensor.data().len()].copy_from_slice(tensor.data()),
        }
    }
    Ok(flat)
}

/// The reverse of [`pack`]: every slot's tensor, added to `state`.
pub(super) fn unpack(slots: &[Slot], stages: &[Stage], prefix: &str, flat: &[f32], state: &mut StateDict) {
    for slot in slots {
        let mut tensor = Tensor::zeros(slot.shape.clone());
        let source = &flat[slot.range.clone()];
        match slot.packing(stages) {
            Some(Weights::Conv(conv)) => conv.unpack_weights(source, tensor.data_mut()),
            Some(Weights::Linear(linear)) => linear.unpack_weights(source, tensor.data_mut()),
            None => {
                let len = tensor.data().len();
                tensor.data_mut().copy_from_slice(&source[..len]);
            }
        }
        state.insert(format!("{prefix}{}", slot.name), tensor);
    }
}
