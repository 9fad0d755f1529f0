//! Node by node from an ONNX graph to ours. A value is a constant, or a layout over one of our nodes; what an operator makes of
//! them stands in [`super::operators`].

use std::collections::HashMap;
use std::rc::Rc;

use super::call::{Call, axis_of};
use super::constant::{Constant, External, MAX_COMPUTED};
use super::fold::Known;
use super::graph::Graph;
use super::layout::{Axis, ChannelOrder, Layout};
use super::lower::Refused;
use super::names;
use super::operators::Operator;
use super::problem::Unsupported;
use super::proto;
use crate::Tensor;
use crate::ops::ChannelShuffle;
use crate::weights::printable;

/// The opset from which on operators broadcast as NumPy does.
pub(super) const BROADCASTING: i64 = 7;

/// What a name of an ONNX graph stands for.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Constant(Rc<Constant>),
    View(View),
}

/// A tensor that is computed: a node's value, in some layout.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) node: usize,
    pub(super) layout: Layout,
}

/// Why a name stands for nothing.
#[derive(Clone, Copy, Debug)]
enum Missing<'g> {
    /// The node that gives it was not read, which is told already.
    Unread,
    /// It is a further output of this operator, of which the first is read.
    Further(&'g str),
}

/// What is known so far.
pub(super) struct Reader<'g> {
    pub(super) graph: Graph,
    /// Pictures that dimensions count.
    pub(super) batch: usize,
    values: HashMap<&'g str, Result<Value, Missing<'g>>>,
    /// Constants that come from the file, whose names name layers.
    pub(super) weights: HashMap<*const Constant, &'g str>,
    external: &'g External,
    opset: i64,
    /// Elements of constants that were computed, of the file's own, and of all that nodes have looked at.
    computed: usize,
    in_file: usize,
    looked_at: usize,
    /// The nodes that were read, by which those of the graph say where they come from.
    nodes: Vec<&'g proto::Node>,
    pub(super) unsupported: Vec<Unsupported>,
    /// The first node that has put pictures and something else into one dimension.
    pub(super) sharing: Option<&'g proto::Node>,
}

/// The inputs of a node, by place; `None` where an optional one is left out.
pub(super) type Inputs = [Option<Value>];

impl<'g> Reader<'g> {
    pub(super) fn new(graph: Graph, batch: usize, opset: i64, external: &'g External) -> Reader<'g> {
        Reader {
            graph,
            batch,
            values: HashMap::new(),
            weights: HashMap::new(),
            external,
            opset,
            computed: 0,
            in_file: 0,
            looked_at: 0,
            nodes: Vec::new(),
            unsupported: Vec::new(),
            sharing: None,
        }
    }

    pub(super) fn define(&mut self, name: &'g str, value: Value) {
        if let Value::Constant(constant) = &value {
            self.weights.insert(Rc::as_ptr(constant), name);
            self.in_file += constant.len();
        }
        self.values.insert(name, Ok(value));
    }

    pub(super) fn is_defined(&self, name: &str) -> bool {
        !name.is_empty() && self.values.contains_key(name)
    }

    /// The value of that name; `None` where the node that gives it was not read.
    ///
    /// # Errors
    /// Nothing gives it.
    pub(super) fn value(&self, name: &str) -> Result<Option<&Value>, String> {
        match self.values.get(name) {
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(Missing::Unread)) => Ok(None),
            Some(Err(Missing::Further(operator))) => {
                let (name, operator) = (printable(name), printable(operator));
                Err(format!(
                    "expected the first output of {operator}, got a further one, '{name}', which is not computed"
                ))
            }
            None => Err(format!("expected a tensor '{}', which nothing gives", printable(name))),
        }
    }

    /// Reads a node. One that cannot be read is noted, and what depends on it is passed over.
    pub(super) fn read(&mut self, node: &'g proto::Node) {
        self.nodes.push(node);
        let outputs = self.outputs(node);
        let further = if outputs.is_ok() { Missing::Further(&node.op_type) } else { Missing::Unread };
        let outputs = outputs.unwrap_or_else(|problem| {
            self.unsupported.extend(problem.map(|problem| Unsupported::new(node, problem)));
            Vec::new()
        });
        let mut outputs = outputs.into_iter();
        for name in &node.output {
            let output = outputs.next().ok_or(further);
            if !name.is_empty() {
                self.values.insert(name, output);
            }
        }
    }

    /// The outputs of a node.
    ///
    /// # Errors
    /// Why it cannot be read; nothing if that is because one before it was not.
    fn outputs(&mut self, node: &'g proto::Node) -> Result<Vec<Value>, Option<String>> {
        let call = Call::new(node, self.opset, self.external);
        if !matches!(&node.domain[..], "" | "ai.onnx") {
            return Err(Some(format!("is of the domain '{}', which is not supported", printable(&node.domain))));
        }
        if call.operator() == "Constant" {
            let constant = Rc::new(call.constant()?);
            self.in_file += constant.len();
            if let Some(name) = node.output.first() {
                self.weights.insert(Rc::as_ptr(&constant), name);
            }
            return Ok(vec![Value::Constant(constant)]);
        }
        let operator = Operator::find(call.operator())?;
        let input = |name: &String| match &name[..] {
            "" => Ok(Some(None)),
            name => self.value(name).map(|value| value.cloned().map(Some)),
        };
        let inputs: Option<Vec<Option<Value>>> =
            node.input.iter().map(input).collect::<Result<Vec<_>, _>>()?.into_iter().collect();
        let mut inputs = inputs.ok_or(None)?;
        if self.opset < BROADCASTING {
            aligned(&call, &mut inputs);
        }
        let outputs = self.computed(&call, operator, &inputs)?;
        let shares = |value: &Value| matches!(value, Value::View(view) if view.layout.shares_batch());
        if self.sharing.is_none() && outputs.iter().any(shares) {
            self.sharing = Some(node);
        }
        Ok(outputs)
    }

    /// What an operator gives for these inputs.
    fn computed(&mut self, call: &Call<'g>, operator: &Operator, inputs: &Inputs) -> Result<Vec<Value>, String> {
        let length = |input: &Value| match input {
            Value::Constant(constant) => constant.len(),
            Value::View(view) => self.graph.shape(view.node)[0],
        };
        self.looked_at = inputs.iter().flatten().map(length).fold(self.looked_at, usize::saturating_add);
        self.within_budget()?;
        let constants: Option<Vec<Option<&Constant>>> = inputs
            .iter()
            .map(|input| match input {
                None => Some(None),
                Some(Value::Constant(constant)) => Some(Some(&**constant)),
                Some(Value::View(_)) => None,
            })
            .collect();
        let known = constants.and_then(|constants| operator.known(call, Known(&constants)));
        let outputs = match known {
            Some(known) => {
                let known = known?;
                self.computed += known.len();
                vec![Value::Constant(known.into())]
            }
            None => {
                self.graph.name = names::of_node(call.node, self.weight_name(inputs));
                self.graph.origin = self.nodes.len().checked_sub(1);
                operator.read(self, call, inputs)?
            }
        };
        self.within_budget()?;
        Ok(outputs)
    }

    /// A file of some bytes must not stand for gigabytes, nor for minutes: what is made of it, and what is looked at on the way, is a
    /// small multiple of its own elements, or small.
    fn within_budget(&self) -> Result<(), String> {
        let most = MAX_COMPUTED + 3 * self.in_file;
        match self.computed + self.graph.made <= most && self.looked_at <= 2 * most {
            true => Ok(()),
            false => Err(format!("expected at most {MAX_COMPUTED} elements that are computed and not in the file")),
        }
    }

    /// Notes what lowering has refused.
    pub(super) fn refuse(&mut self, refused: &[Refused]) {
        let of_node = |refused: &Refused| Some((self.nodes.get(refused.origin?)?, refused.problem.clone()));
        let found = refused.iter().filter_map(of_node).map(|(node, problem)| Unsupported::new(node, problem));
        self.unsupported.extend(found);
    }

    /// The name that the file has for the weight of a layer.
    fn weight_name(&self, inputs: &Inputs) -> Option<&'g str> {
        inputs.iter().flatten().find_map(|input| match input {
            Value::Constant(constant) => self.weights.get(&Rc::as_ptr(constant)).copied(),
            Value::View(_) => None,
        })
    }

    /// A value as maps: the node that has it, channels in order.
    ///
    /// # Errors
    /// A constant, or a tensor that is no batch of maps.
    pub(super) fn map(&mut self, value: &Value) -> Result<usize, String> {
        let view = view(value)?;
        let shape = self.graph.shape(view.node);
        match view.layout.as_map(shape) {
            Some(ChannelOrder::Plain) => Ok(view.node),
            Some(ChannelOrder::Shuffled(groups)) => self.graph.net(ChannelShuffle { groups }, &[view.node], Vec::new()),
            None => Err(format!("expected batch, channels, height and width, got {}", self.described(view))),
        }
    }

    /// A value as maps, which have one row where the tensor is batch, channels and length: the node, and the number of axes.
    ///
    /// # Errors
    /// As [`Reader::map`].
    pub(super) fn maps_or_lists(&mut self, value: &Value) -> Result<(usize, usize), String> {
        let View { node, layout } = view(value)?.clone();
        let shape @ [_, rows, _] = self.graph.shape(node);
        if layout.rank() == 3 && rows == 1 {
            let raised = layout.unsqueeze(&[2]);
            if raised.as_map(shape).is_some() {
                return Ok((self.map(&Value::View(View { node, layout: raised }))?, 1));
            }
        }
        Ok((self.map(value)?, 2))
    }

    /// The tensor with its channels in order, where only that keeps it from being maps.
    ///
    /// # Errors
    /// As [`Reader::map`].
    pub(super) fn in_order(&mut self, view: &View) -> Result<View, String> {
        match view.layout.as_map(self.graph.shape(view.node)) {
            Some(ChannelOrder::Shuffled(_)) => {
                let node = self.map(&Value::View(view.clone()))?;
                Ok(View { node, layout: Layout::map(self.batch, self.graph.shape(node)) })
            }
            Some(ChannelOrder::Plain) | None => Ok(view.clone()),
        }
    }

    /// A tensor's dimensions, for messages.
    pub(super) fn described(&self, view: &View) -> String {
        let [channels, rows, columns] = self.graph.shape(view.node);
        let dims = view.layout.dims();
        format!("dimensions {dims:?} over maps of {channels}x{rows}x{columns}")
    }

    /// The number that a constant is beside a tensor, if it is one number and makes the tensor no larger.
    pub(super) fn number(&self, view: &View, constant: &Constant) -> Option<f32> {
        let fits = constant.dims.len() <= view.layout.rank();
        let fits = fits && view.layout.broadcast(&constant.dims, self.graph.shape(view.node)[0]).is_some();
        if fits { constant.uniform() } else { None }
    }

    /// A batch of maps.
    pub(super) fn maps(&self, node: usize) -> Value {
        let layout = Layout::map(self.batch, self.graph.shape(node));
        Value::View(View { node, layout })
    }

    /// The same, without the axis of rows where there was one axis.
    pub(super) fn of_axes(&self, axes: usize, node: usize) -> Value {
        match axes {
            1 => {
                let layout = Layout::of(self.batch, self.graph.shape(node), &[Axis::Channel, Axis::Column]);
                Value::View(View { node, layout })
            }
            _ => self.maps(node),
        }
    }

    /// A value whose layout is another's, over a node of the same shape.
    pub(super) fn like(&self, view: &View, node: usize) -> Value {
        Value::View(View { node, layout: view.layout.clone() })
    }
}

/// Older operators say by an axis where the second input's dimensions stand: others of length 1 come after them.
fn aligned(call: &Call<'_>, inputs: &mut Inputs) {
    let rank = |value: &Value| match value {
        Value::Constant(constant) => constant.dims.len(),
        Value::View(view) => view.layout.rank(),
    };
    let [Some(first), Some(second)] = inputs else { return };
    let Ok(axis) = axis_of(call.int("axis", -1), rank(first).max(1)) else { return };
    let own = rank(second);
    let after = rank(first).saturating_sub(axis + own);
    if call.int("broadcast", 0) != 1 || !call.has("axis") {
        return;
    }
    match second {
        Value::Constant(constant) => {
            let dims = constant.dims.iter().copied().chain(std::iter::repeat_n(1, after)).collect();
            *constant = Rc::new(Constant { dims, data: constant.data.clone() });
        }
        Value::View(view) => view.layout = view.layout.unsqueeze(&(own..own + after).collect::<Vec<_>>()),
    }
}

/// The tensor of a value that is computed.
///
/// # Errors
/// A constant.
pub(super) fn view(value: &Value) -> Result<&View, String> {
    match value {
        Value::View(view) => Ok(view),
        Value::Constant(_) => Err("expected a tensor that depends on the picture, got a constant".into()),
    }
}

/// The elements of a value that is known.
///
/// # Errors
/// A tensor that depends on the picture.
pub(super) fn constant(value: &Value) -> Result<&Constant, String> {
    match value {
        Value::Constant(constant) => Ok(constant),
        Value::View(_) => Err("expected a constant, got a tensor that depends on the picture".into()),
    }
}

/// An input that must be there.
///
/// # Errors
/// It is not.
pub(super) fn needed<'i>(inputs: &'i Inputs, index: usize, name: &str) -> Result<&'i Value, String> {
    inputs.get(index).and_then(Option::as_ref).ok_or_else(|| format!("expected an input {name}"))
}

/// A constant input that may be left out.
///
/// # Errors
/// A tensor that depends on the picture.
pub(super) fn given(inputs: &Inputs, index: usize) -> Result<Option<&Constant>, String> {
    inputs.get(index).and_then(Option::as_ref).map(constant).transpose()
}

/// A constant as a tensor of a net.
pub(super) fn tensor(constant: &Constant) -> Tensor {
    Tensor::sharing(&constant.dims[..], constant.share_floats())
}
