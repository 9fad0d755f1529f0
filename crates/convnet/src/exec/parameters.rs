//! Parameters in the layouts that stages read, each kind in one flat buffer.

use crate::net::{Net, NodeId};
use crate::ops::{Role, Shape};
use crate::{Error, Result, StateDict, Tensor};
use convnet_kernels::layout::blocks;
use convnet_kernels::memory::Buffer;
use convnet_kernels::simd::LANES;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Range;

/// How a stage's weight lies in memory.
pub(super) trait Packing {
    /// From row-major order.
    fn pack(&self, plain: &[f32], packed: &mut [f32]);
    /// Back to row-major order.
    fn unpack(&self, packed: &[f32], plain: &mut [f32]);
}

/// Where one named tensor lies.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    shape: Vec<usize>,
    pub(super) range: Range<usize>,
    /// The stage that packs it; nothing for a number per channel or feature, which lies as it is.
    packed_by: Option<usize>,
}

/// All tensors of a plan: trained ones in one flat buffer, so that an update is one pass, and the others in a second.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    pub(super) trained: Vec<Slot>,
    pub(super) buffers: Vec<Slot>,
}

/// Floats of a flat buffer for these slots.
pub(super) fn flat_len(slots: &[Slot]) -> usize {
    slots.last().map_or(0, |slot| slot.range.end)
}

impl Parameters {
    /// Gives a node's weight, which a stage packs, a place of `len` floats; its index among the trained ones.
    pub(super) fn add_packed(&mut self, net: &Net, node: usize, name: &str, stage: usize, len: usize) -> usize {
        self.add(net, node, name, Some(stage), len)
    }

    /// A tensor of one number per channel or feature, padded to whole blocks; its index among its kind.
    pub(super) fn add_vector(&mut self, net: &Net, node: usize, name: &str) -> usize {
        let len = match net.nodes()[node].shape {
            Shape::Map([channels, ..]) => channels,
            Shape::Vector(features) => features,
        };
        self.add(net, node, name, None, blocks(len) * LANES)
    }

    fn add(&mut self, net: &Net, node: usize, name: &str, packed_by: Option<usize>, len: usize) -> usize {
        let id = NodeId(node);
        let parameter = net.node(id).op.parameters(&net.input_shapes(id)).into_iter().find(|p| p.name == name);
        let parameter = parameter.expect("an operation's parameters do not change");
        let full = format!("{}.{name}", net.node(id).name);
        let slots = match parameter.role {
            Role::Weight | Role::Bias => &mut self.trained,
            Role::Buffer => &mut self.buffers,
        };
        let start = flat_len(slots);
        let range = start..start + len.next_multiple_of(LANES);
        slots.push(Slot { name: full, shape: parameter.shape, range, packed_by });
        slots.len() - 1
    }
}

/// A flat buffer with every slot's tensor from a state, under its name with `prefix` before it; `packing` finds what
/// packs a stage's weight.
pub(super) fn pack<'p, T: Borrow<Tensor>>(
    slots: &[Slot],
    packing: impl Fn(usize) -> &'p dyn Packing,
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
        match slot.packed_by {
            Some(stage) => packing(stage).pack(tensor.data(), target),
            None => target[..tensor.data().len()].copy_from_slice(tensor.data()),
        }
    }
    Ok(flat)
}

/// The reverse of [`pack`]: every slot's tensor, added to `state`.
pub(super) fn unpack<'p>(
    slots: &[Slot],
    packing: impl Fn(usize) -> &'p dyn Packing,
    prefix: &str,
    flat: &[f32],
    state: &mut StateDict,
) {
    for slot in slots {
        let mut tensor = Tensor::zeros(slot.shape.clone());
        let source = &flat[slot.range.clone()];
        match slot.packed_by {
            Some(stage) => packing(stage).unpack(source, tensor.data_mut()),
            None => {
                let len = tensor.data().len();
                tensor.data_mut().copy_from_slice(&source[..len]);
            }
        }
        state.insert(format!("{prefix}{}", slot.name), tensor);
    }
}
