//! How a tensor of an ONNX graph lies over the value of a net's node: which axes of the value each of its dimensions goes through.
//!
//! Reshape, Transpose, Flatten, Squeeze and Unsqueeze change the layout alone and compute nothing. So transposes around a part in
//! NHWC cancel by themselves, a channel shuffle is a layout whose channels come in another order, and a product with a matrix
//! is a 1×1 convolution wherever the channels are its last dimension, whatever was written around it.
//!
//! A dimension is a list of atoms, the slowest first. An atom is a factor of one axis: `size` steps of `stride` along it. Axes of
//! length 1 have no atoms, but for the batch, which always has one.

use std::collections::VecDeque;
use std::ops::Range;

use super::constant::MAX_AXES;

/// An axis of a node's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Batch,
    Channel,
    Row,
    Column,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Atom {
    axis: Axis,
    size: usize,
    stride: usize,
}

/// What a dimension goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Nothing: its length is 1.
    Unit,
    /// All of one axis, in order.
    Whole(Axis),
    /// Anything else.
    Other,
}

/// In which order the channels come in a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelOrder {
    /// As they are.
    Plain,
    /// Of so many groups the first channels, then their second ones, and so on.
    Shuffled(usize),
}

/// The layout of a tensor; equal layouts are equal as lists, because neighbouring atoms that go on from one another are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout(Vec<Vec<Atom>>);

impl Layout {
    /// Batch, then axes of a value with these channels, rows and columns, in this order.
    pub(super) fn of(batch: usize, shape: [usize; 3], axes: &[Axis]) -> Layout {
        let [channels, rows, columns] = shape;
        let dim = |&axis: &Axis| {
            let size = match axis {
                Axis::Batch => batch,
                Axis::Channel => channels,
                Axis::Row => rows,
                Axis::Column => columns,
            };
            let atom = Atom { axis, size, stride: 1 };
            Vec::from_iter((size > 1 || axis == Axis::Batch).then_some(atom))
        };
        Layout([Axis::Batch].iter().chain(axes).map(dim).collect())
    }

    /// Batch, channels, rows, columns.
    pub(super) fn map(batch: usize, shape: [usize; 3]) -> Layout {
        Layout::of(batch, shape, &[Axis::Channel, Axis::Row, Axis::Column])
    }

    /// Whether a dimension goes through pictures and something else.
    pub(super) fn shares_batch(&self) -> bool {
        self.0.iter().any(|dim| dim.len() > 1 && dim.iter().any(|atom| atom.axis == Axis::Batch))
    }

    /// Whether a dimension goes through the pictures.
    pub(super) fn has_batch(&self, dim: usize) -> bool {
        self.0[dim].iter().any(|atom| atom.axis == Axis::Batch)
    }

    /// The length of each dimension.
    pub(super) fn dims(&self) -> Vec<usize> {
        self.0.iter().map(|dim| length(dim)).collect()
    }

    pub(super) fn rank(&self) -> usize {
        self.0.len()
    }

    /// What a dimension goes through, for a value of that shape.
    pub(super) fn extent(&self, dim: usize, [channels, rows, columns]: [usize; 3]) -> Extent {
        let full = |atom: &Atom| match atom.axis {
            Axis::Batch => true,
            Axis::Channel => atom.size == channels,
            Axis::Row => atom.size == rows,
            Axis::Column => atom.size == columns,
        };
        match &self.0[dim][..] {
            [] => Extent::Unit,
            [atom] if full(atom) => Extent::Whole(atom.axis),
            _ => Extent::Other,
        }
    }

    /// Whether a dimension goes through all channels in order, and nothing else.
    pub(super) fn has_channels(&self, dim: usize, shape: [usize; 3]) -> bool {
        dim < self.rank()
            && match self.extent(dim, shape) {
                Extent::Unit => shape[0] == 1,
                extent => extent == Extent::Whole(Axis::Channel),
            }
    }

    /// Whether the dimensions are batch, all channels in some order, rows and columns; then this order.
    pub(super) fn as_map(&self, shape: [usize; 3]) -> Option<ChannelOrder> {
        let whole = |dim: usize, axis: Axis, length: usize| match self.extent(dim, shape) {
            Extent::Unit => length == 1,
            extent => extent == Extent::Whole(axis),
        };
        let [channels, rows, columns] = shape;
        let fits = self.rank() == 4
            && whole(0, Axis::Batch, 0)
            && whole(2, Axis::Row, rows)
            && whole(3, Axis::Column, columns);
        fits.then(|| self.channel_order(1, channels)).flatten()
    }

    /// Which dimensions are batch, all channels in order, rows and columns, if those are all that there are.
    pub(super) fn map_order(&self, shape: [usize; 3]) -> Option<[usize; 4]> {
        let all = [[0, 1, 2, 3], [0, 3, 1, 2]];
        let orders = all.into_iter().filter(|_| self.rank() == 4);
        orders.into_iter().find(|order| self.transpose(order).as_map(shape) == Some(ChannelOrder::Plain))
    }

    /// In which order the channels come in a dimension that goes through all of them and nothing else.
    fn channel_order(&self, dim: usize, channels: usize) -> Option<ChannelOrder> {
        let atoms = &self.0[dim];
        if length(atoms) != channels || atoms.iter().any(|atom| atom.axis != Axis::Channel) {
            return None;
        }
        match atoms[..] {
            [] | [_] => Some(ChannelOrder::Plain),
            [inner, groups] if inner.stride == 1 && groups.stride == inner.size => {
                Some(ChannelOrder::Shuffled(groups.size))
            }
            _ => None,
        }
    }

    /// The same elements with other dimensions, if a layout can say so.
    pub(super) fn reshape(&self, dims: &[usize]) -> Option<Layout> {
        if dims.len() > MAX_AXES {
            return None;
        }
        let mut atoms: VecDeque<Atom> = self.0.iter().flatten().copied().collect();
        let mut reshaped = Vec::with_capacity(dims.len());
        for &dim in dims {
            let (mut taken, mut size) = (Vec::new(), 1);
            while let Some(&atom) = atoms.front() {
                let left = dim / size;
                // A batch of one picture lies in the first dimension that can hold it.
                if left.is_multiple_of(atom.size) && (left > 1 || taken.is_empty() && atom.size == 1) {
                    taken.extend(atoms.pop_front());
                    size *= atom.size;
                } else if left > 1 && atom.axis != Axis::Batch && atom.size.is_multiple_of(left) {
                    let inner = atom.size / left;
                    taken.push(Atom { size: left, stride: atom.stride * inner, ..atom });
                    atoms[0].size = inner;
                    size = dim;
                } else {
                    break;
                }
            }
            if size != dim {
                return None;
            }
            reshaped.push(taken);
        }
        let all_one = atoms.iter().all(|atom| atom.size == 1);
        reshaped.last_mut().filter(|_| all_one)?.extend(atoms);
        Some(Layout(reshaped).merged())
    }

    /// The dimensions in another order.
    pub(super) fn transpose(&self, order: &[usize]) -> Layout {
        Layout(order.iter().map(|&dim| self.0[dim].clone()).collect())
    }

    /// Without dimensions of length 1; the batch's is kept, because a net takes any number of pictures.
    pub(super) fn squeeze(&self, remove: impl Fn(usize) -> bool) -> Layout {
        let kept = |(dim, atoms): &(usize, &Vec<Atom>)| !remove(*dim) || !atoms.is_empty();
        Layout(self.0.iter().enumerate().filter(kept).map(|(_, atoms)| atoms.clone()).collect())
    }

    /// With a dimension of length 1 at these places of the result, in ascending order.
    pub(super) fn unsqueeze(&self, places: &[usize]) -> Layout {
        let mut dims = self.0.clone();
        for &place in places {
            dims.insert(place.min(dims.len()), Vec::new());
        }
        Layout(dims)
    }

    /// The same over another value, in which a dimension goes through all channels and axes that are not kept have length 1.
    pub(super) fn with_channels(&self, dim: usize, channels: usize) -> Layout {
        let mut dims = self.0.clone();
        let atom = Atom { axis: Axis::Channel, size: channels, stride: 1 };
        dims[dim] = Vec::from_iter((channels > 1).then_some(atom));
        Layout(dims)
    }

    /// The same with dimensions of length 1 in place of some.
    pub(super) fn reduced(&self, dims: &[usize]) -> Layout {
        let atoms = |(dim, atoms): (usize, &Vec<Atom>)| if dims.contains(&dim) { Vec::new() } else { atoms.clone() };
        Layout(self.0.iter().enumerate().map(atoms).collect())
    }

    /// Which axes these dimensions go through, all of each; `None` if they go through a part of one.
    pub(super) fn axes_of(&self, dims: &[usize], shape: [usize; 3]) -> Option<Vec<Axis>> {
        let mut axes = Vec::new();
        for (axis, whole) in [Axis::Channel, Axis::Row, Axis::Column].into_iter().zip(shape) {
            let atoms = dims.iter().flat_map(|&dim| &self.0[dim]).filter(|atom| atom.axis == axis);
            match atoms.map(|atom| atom.size).product::<usize>() {
                1 => {}
                all if all == whole => axes.push(axis),
                _ => return None,
            }
        }
        (!dims.iter().any(|&dim| self.has_batch(dim))).then_some(axes)
    }

    /// For each channel the place in a constant that is broadcast against this layout; `None` if the constant has other numbers
    /// for other pixels or pictures.
    pub(super) fn broadcast(&self, constant: &[usize], channels: usize) -> Option<Vec<usize>> {
        let skipped = constant.len().saturating_sub(self.rank());
        if constant[..skipped].iter().any(|&length| length != 1) {
            return None;
        }
        let constant = &constant[skipped..];
        let first = self.rank() - constant.len();
        let mut places = vec![0; channels];
        let mut stride = 1;
        for (&own, atoms) in constant.iter().zip(&self.0[first..]).rev() {
            if own > 1 {
                if own != length(atoms) || atoms.iter().any(|atom| atom.axis != Axis::Channel) {
                    return None;
                }
                places.iter_mut().enumerate().for_each(|(channel, place)| *place += stride * position(atoms, channel));
            }
            stride *= own;
        }
        Some(places)
    }

    /// For each index along a dimension the place in the value of one picture, row-major over channels, rows and columns; `None`
    /// unless the dimension goes through all channels, or all channels, rows and columns.
    pub(super) fn places(&self, dim: usize, [channels, rows, columns]: [usize; 3]) -> Option<Vec<usize>> {
        let axes = self.axes_of(&[dim], [channels, rows, columns])?;
        let spatial = axes.iter().any(|&axis| axis != Axis::Channel);
        let lengths = [(Axis::Channel, channels), (Axis::Row, rows), (Axis::Column, columns)];
        let through = |&(axis, length): &(Axis, usize)| length == 1 || axes.contains(&axis);
        let all = if spatial { &lengths[..] } else { &lengths[..1] };
        if !all.iter().all(through) {
            return None;
        }
        let pixels = if spatial { rows * columns } else { 1 };
        let step = |axis: Axis| match axis {
            Axis::Batch => 0,
            Axis::Channel => pixels,
            Axis::Row => columns,
            Axis::Column => 1,
        };
        let mut places = vec![0];
        for atom in &self.0[dim] {
            let along = (0..atom.size).map(|index| index * atom.stride * step(atom.axis));
            let along: Vec<usize> = along.collect();
            places = places.iter().flat_map(|&place| along.iter().map(move |&more| place + more)).collect();
        }
        Some(places)
    }

    /// The channels of `range` along a dimension, if they lie side by side (the first one, and the one after the last), and the
    /// layout over a value that has these alone.
    pub(super) fn slice(&self, dim: usize, range: Range<usize>, channels: usize) -> Option<([usize; 2], Layout)> {
        let [atom] = self.0[dim][..] else { return None };
        if atom.axis != Axis::Channel || atom.size * atom.stride != channels {
            return None;
        }
        let mut dims = self.0.clone();
        dims[dim] = Vec::from_iter((range.len() > 1).then_some(Atom { size: range.len(), ..atom }));
        Some(([range.start * atom.stride, range.end * atom.stride], Layout(dims)))
    }

    /// Whether another layout is this one with dimensions of length 1 in the place of some; missing ones are such at its beginning.
    pub(super) fn covers(&self, other: &Layout) -> bool {
        let Some(missing) = self.rank().checked_sub(other.rank()) else { return false };
        self.0[missing..].iter().zip(&other.0).all(|(own, other)| other.is_empty() || own == other)
    }

    fn merged(mut self) -> Layout {
        for dim in &mut self.0 {
            dim.dedup_by(|next, atom| {
                let goes_on = next.axis == atom.axis && atom.stride == next.stride * next.size;
                if goes_on {
                    *atom = Atom { size: atom.size * next.size, ..*next };
                }
                goes_on
            });
        }
        self
    }
}

fn length(atoms: &[Atom]) -> usize {
    atoms.iter().map(|atom| atom.size).product()
}

/// Where a channel stands in a dimension that goes through channels alone.
fn position(atoms: &[Atom], channel: usize) -> usize {
    atoms.iter().fold(0, |position, atom| position * atom.size + channel / atom.stride % atom.size)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [6, 4, 5];

    fn nchw() -> Layout {
        Layout::map(1, SHAPE)
    }

    #[test]
    fn transposes_cancel() {
        let nhwc = nchw().transpose(&[0, 2, 3, 1]);
        assert_eq!((nhwc.dims(), nhwc.as_map(SHAPE)), (vec![1, 4, 5, 6], None));
        assert_eq!(nhwc.transpose(&[0, 3, 1, 2]), nchw());
        assert_eq!(nhwc, Layout::of(1, SHAPE, &[Axis::Row, Axis::Column, Axis::Channel]));
    }

    #[test]
    fn a_channel_shuffle_is_an_order_of_channels() {
        let apart = nchw().reshape(&[1, 2, 3, 4, 5]).unwrap();
        let shuffled = apart.transpose(&[0, 2, 1, 3, 4]).reshape(&[1, 6, 4, 5]).unwrap();
        assert_eq!(shuffled.as_map(SHAPE), Some(ChannelOrder::Shuffled(2)));
        // Shuffled again with the other number of groups, they are as they were.
        let again = shuffled.reshape(&[1, 3, 2, 4, 5]).unwrap().transpose(&[0, 2, 1, 3, 4]);
        assert_eq!(again.reshape(&[1, 6, 4, 5]), Some(nchw()));
    }

    #[test]
    fn flattening_keeps_the_order_of_the_elements() {
        let flat = nchw().reshape(&[1, 120]).unwrap();
        assert_eq!(flat.places(1, SHAPE).unwrap(), (0..120).collect::<Vec<_>>());
        let nhwc = nchw().transpose(&[0, 2, 3, 1]).reshape(&[1, 120]).unwrap();
        assert_eq!(nhwc.places(1, SHAPE).unwrap()[..7], [0, 20, 40, 60, 80, 100, 1]);
        assert_eq!(flat.reshape(&[1, 6, 4, 5]), Some(nchw()));
        assert_eq!(nchw().reshape(&[1, 7, 4, 5]), None);
    }

    #[test]
    fn a_batch_of_one_lies_in_the_first_dimension() {
        let flat = nchw().reshape(&[120]).unwrap();
        assert_eq!(flat.reshape(&[1, 1, 6, 4, 5]).unwrap().squeeze(|dim| dim == 1), nchw());
        // The batch cannot be squeezed away.
        assert_eq!(nchw().squeeze(|_| true).dims(), [1, 6, 4, 5]);
        assert_eq!(Layout::map(1, [6, 1, 1]).squeeze(|_| true).dims(), [1, 6]);
        assert_eq!(Layout::map(1, [6, 1, 1]).squeeze(|_| true).unsqueeze(&[2, 3]), Layout::map(1, [6, 1, 1]));
    }

    #[test]
    fn constants_are_broadcast_along_channels_alone() {
        assert_eq!(nchw().broadcast(&[6, 1, 1], 6).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(nchw().broadcast(&[1, 1, 1, 1, 1], 6).unwrap(), [0; 6]);
        assert_eq!(nchw().broadcast(&[], 6).unwrap(), [0; 6]);
        assert_eq!(nchw().broadcast(&[5], 6), None);
        let apart = nchw().reshape(&[1, 2, 3, 4, 5]).unwrap();
        assert_eq!(apart.broadcast(&[3, 1, 1], 6).unwrap(), [0, 1, 2, 0, 1, 2]);
        assert_eq!(nchw().transpose(&[0, 2, 3, 1]).broadcast(&[6], 6).unwrap(), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn dimensions_know_their_axes() {
        assert_eq!(nchw().axes_of(&[2, 3], SHAPE), Some(vec![Axis::Row, Axis::Column]));
        assert_eq!(nchw().axes_of(&[0], SHAPE), None);
        assert_eq!(nchw().reshape(&[1, 2, 3, 20]).unwrap().axes_of(&[1], SHAPE), None);
        assert_eq!(nchw().reshape(&[1, 6, 20]).unwrap().axes_of(&[2], SHAPE), Some(vec![Axis::Row, Axis::Column]));
    }

    #[test]
    fn channels_that_lie_side_by_side_are_a_slice() {
        assert_eq!(nchw().slice(1, 2..4, 6), Some(([2, 4], Layout::map(1, [2, 4, 5]))));
        assert_eq!(nchw().slice(2, 2..4, 6), None);
        // The second of two groups.
        let groups = nchw().reshape(&[1, 2, 3, 4, 5]).unwrap();
        let (range, layout) = groups.slice(1, 1..2, 6).unwrap();
        assert_eq!((range, layout.squeeze(|dim| dim == 1)), ([3, 6], Layout::map(1, [3, 4, 5])));
        assert_eq!(groups.slice(2, 0..1, 6), None);
    }
}
