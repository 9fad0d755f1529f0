//! Parameters in the layouts that stages read, each kind in one flat buffer.

use crate::net::{Net, NodeId};
use crate::ops::{Role, Shape};
use crate::{Error, Result, StateDict, Tensor};
use convnet_kernels::layout::blocks;
use convnet_kernels::memory::Buffer;
use convnet_kernels::simd::LANES;
use convnet_kernels::threads::Threads;
use std::borrow::Borrow;
use std::ops::Range;

/// How a stage's weight lies in memory.
pub(super) trait Packing {
    /// From row-major order.
    fn pack(&self, threads: &Threads, plain: &[f32], packed: &mut [f32]);
    /// Back to row-major order.
    fn unpack(&self, packed: &[f32], plain: &mut [f32]);
    /// Brings packed weights that never change again into the form that forward reads, in their place.
    fn fix(&self, threads: &Threads, packed: &mut [f32]);
    /// For weights of which forward reads words of two at some batch sizes, and what is packed at others, the words.
    fn words(&self, threads: &Threads, packed: &[f32]) -> Option<Buffer>;
    /// Whether this plan reads those words.
    fn reads_words(&self) -> bool;
}

/// Where one named tensor lies.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) range: Range<usize>,
    /// The stage that reads it.
    pub(super) stage: usize,
    /// Whether the stage packs it; a number per channel or feature lies as it is.
    pub(super) packed: bool,
    /// Its number among those that the stage packs.
    pub(super) weight: usize,
    /// Whether its gradient is asked for.
    pub(super) trained: bool,
    /// Whether it is read as [`Packing::words`].
    pub(super) words: bool,
}

/// Trained parameters as stages read them.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) flat: Buffer,
    /// For each slot, what some plans read in its place; empty where nothing is fixed.
    words: Vec<Option<Buffer>>,
}

impl Packed {
    /// Parameters that change, in their slots.
    pub(super) fn changing(flat: Buffer) -> Packed {
        Packed { flat, words: Vec::new() }
    }

    /// Parameters that never change again, in the forms that plans for any batch size read.
    pub(super) fn fixed<'p>(
        mut flat: Buffer,
        slots: &[Slot],
        packing: impl Fn(&Slot) -> &'p dyn Packing,
        threads: &Threads,
    ) -> Packed {
        let mut words = |slot: &Slot| {
            let packing = slot.packed.then(|| packing(slot))?;
            let target = &mut flat[slot.range.clone()];
            let words = packing.words(threads, target);
            if words.is_none() {
                packing.fix(threads, target);
            }
            words
        };
        Packed { words: slots.iter().map(&mut words).collect(), flat }
    }

    /// By their slots.
    pub(super) fn of<'a>(&'a self, slots: &'a [Slot]) -> WeightsRef<'a> {
        WeightsRef { packed: self, slots }
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        (self.flat.len() + self.words.iter().flatten().map(|words| words.len()).sum::<usize>()) * size_of::<f32>()
    }
}

/// Packed parameters by their slots.
#[derive(Clone, Copy)]
pub(super) struct WeightsRef<'a> {
    packed: &'a Packed,
    pub(super) slots: &'a [Slot],
}

impl<'a> WeightsRef<'a> {
    pub(super) fn get(self, index: usize) -> &'a [f32] {
        let slot = &self.slots[index];
        match self.packed.words.get(index) {
            Some(Some(words)) if slot.words => words,
            _ => &self.packed.flat[slot.range.clone()],
        }
    }

    /// Where a parameter's gradient goes, unless nobody asks for it.
    pub(super) fn gradient(self, index: usize) -> Option<Range<usize>> {
        let slot = &self.slots[index];
        slot.trained.then(|| slot.range.clone())
    }
}

/// All tensors of a plan: trained ones in one flat buffer, so that an update is one pass, and the others in a second.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    pub(super) trained: Vec<Slot>,
    pub(super) buffers: Vec<Slot>,
}

impl Slot {
    /// Brings a tensor of its shape into its place.
    pub(super) fn pack<'p>(
        &self,
        threads: &Threads,
        packing: impl Fn(&Slot) -> &'p dyn Packing,
        plain: &[f32],
        target: &mut [f32],
    ) {
        match self.packed {
            true => packing(self).pack(threads, plain, target),
            false => target[..plain.len()].copy_from_slice(plain),
        }
    }

    /// The reverse.
    pub(super) fn unpack<'p>(&self, packing: impl Fn(&Slot) -> &'p dyn Packing, source: &[f32], plain: &mut [f32]) {
        match self.packed {
            true => packing(self).unpack(source, plain),
            false => plain.copy_from_slice(&source[..plain.len()]),
        }
    }
}

/// Floats of a flat buffer for these slots.
pub(super) fn flat_len(slots: &[Slot]) -> usize {
    slots.last().map_or(0, |slot| slot.range.end)
}

impl Parameters {
    /// Gives a node's weight, which a stage packs, a place of `len` floats; its index among the trained ones.
    pub(super) fn add_packed(&mut self, net: &Net, node: usize, name: &str, stage: usize, len: usize) -> usize {
        let index = self.add(net, node, name, stage, len);
        let before = self.trained[..index].iter().filter(|slot| slot.packed && slot.stage == stage).count();
        (self.trained[index].packed, self.trained[index].weight) = (true, before);
        index
    }

    /// A tensor of one number per channel or feature, padded to whole blocks; its index among its kind.
    pub(super) fn add_vector(&mut self, net: &Net, node: usize, name: &str, stage: usize) -> usize {
        let len = match net.nodes()[node].shape {
            Shape::Map([channels, ..]) => channels,
            Shape::Vector(features) => features,
        };
        self.add(net, node, name, stage, blocks(len) * LANES)
    }

    fn add(&mut self, net: &Net, node: usize, name: &str, stage: usize, len: usize) -> usize {
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
        let (packed, weight, trained, words) = (false, 0, false, false);
        slots.push(Slot { name: full, shape: parameter.shape, range, stage, packed, weight, trained, words });
        slots.len() - 1
    }
}

/// A flat buffer with every slot's tensor, which `take` lends or gives by the slot's name with `prefix` before it; `packing`
/// finds what packs a weight. A tensor that was given is dropped before the next one is taken.
pub(super) fn pack<'p, T: Borrow<Tensor>>(
    threads: &Threads,
    slots: &[Slot],
    packing: impl Fn(&Slot) -> &'p dyn Packing,
    prefix: &str,
    mut take: impl FnMut(&str) -> Option<T>,
) -> Result<Buffer> {
    let mut flat = Buffer::zeros(flat_len(slots));
    for slot in slots {
        let name = format!("{prefix}{}", slot.name);
        let tensor = take(&name).ok_or_else(|| Error::missing_parameter(&name))?;
        let tensor: &Tensor = tensor.borrow();
        if tensor.shape() != slot.shape {
            return Err(Error::parameter_shape(&name, &slot.shape, tensor.shape()));
        }
        let target = &mut flat[slot.range.clone()];
        slot.pack(threads, &packing, tensor.data(), target);
    }
    Ok(flat)
}

/// The reverse of [`pack`]: every slot's tensor, added to `state`.
pub(super) fn unpack<'p>(
    slots: &[Slot],
    packing: impl Fn(&Slot) -> &'p dyn Packing,
    prefix: &str,
    flat: &[f32],
    state: &mut StateDict,
) {
    for slot in slots {
        let mut tensor = Tensor::zeros(slot.shape.clone());
        let source = &flat[slot.range.clone()];
        slot.unpack(&packing, source, tensor.data_mut());
        state.insert(format!("{prefix}{}", slot.name), tensor);
    }
}
