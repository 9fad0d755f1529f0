//! What a pickle can hold: values that refer to each other by index, and the names on the list of those it may mention.

use std::ops::Range;

use crate::weights::element::Element;

/// A value's place in its pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(pub(super) u32);

/// A value, as far as it is of use.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// Something that is neither needed nor dangerous: a float, an object's attributes, optimizer settings.
    Opaque,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian.
    Long(&'a [u8]),
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<Storage<'a>>),
    Tensor(Box<View<'a>>),
}

impl Value<'_> {
    /// Bytes of memory that it takes.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Value::Opaque | Value::Bool(_) | Value::Int(_) | Value::Long(_) | Value::Text(_) | Value::Global(_) => {
                    0
                }
                Value::Tuple(items) | Value::List(items) => size_of_val(&items[..]),
                Value::Dict(entries) => size_of_val(&entries[..]),
                Value::Storage(storage) => size_of_val(&**storage),
                Value::Tensor(view) => {
                    size_of_val(&**view) + size_of_val(&view.shape[..]) + size_of_val(&view.strides[..])
                }
            }
    }
}

/// The names that a pickle may mention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    /// `torch.FloatStorage` and its kind: a type of elements.
    StorageType(Element),
    RebuildTensor,
    RebuildParameter,
    /// `torch.Size`, a tuple.
    Size,
    /// Something harmless; whatever is made with it is opaque.
    Opaque,
}

/// Where elements lie: a storage, or a part of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage<'a> {
    /// What the file calls it.
    pub(super) key: &'a str,
    pub(super) element: Element,
    /// Elements of the whole storage, as the pickle says.
    pub(super) elements: usize,
    /// The elements that may be used.
    pub(super) part: Range<usize>,
}

impl Storage<'_> {
    /// Bytes of the whole storage; this was checked for overflow when it was made.
    pub(super) fn bytes(&self) -> u64 {
        (self.elements * self.element.size()) as u64
    }
}

/// A tensor: a view of a storage, known to lie within what the pickle says of that.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View<'a> {
    pub(super) storage: Storage<'a>,
    /// Index of its first element in the whole storage.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// Elements of the storage from one index to the next, for each axis.
    pub(super) strides: Vec<usize>,
}

impl Global {
    /// The meaning of `module.name`, or nothing when it is not on the list.
    pub(super) fn find(module: &str, name: &str) -> Option<Global> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::RebuildParameter,
            ("torch", "Size") => Global::Size,
            ("torch", "DoubleStorage") => Global::StorageType(Element::F64),
            ("torch", "FloatStorage") => Global::StorageType(Element::F32),
            ("torch", "HalfStorage") => Global::StorageType(Element::F16),
            ("torch", "BFloat16Storage") => Global::StorageType(Element::BF16),
            ("torch", "LongStorage") => Global::StorageType(Element::I64),
            ("torch", "IntStorage") => Global::StorageType(Element::I32),
            ("torch", "ShortStorage") => Global::StorageType(Element::I16),
            ("torch", "CharStorage") => Global::StorageType(Element::I8),
            ("torch", "ByteStorage") | ("torch.storage", "UntypedStorage") => Global::StorageType(Element::U8),
            ("torch", "BoolStorage") => Global::StorageType(Element::Bool),
            ("torch", "device" | "float64" | "float32" | "float16" | "bfloat16" | "int64" | "strided")
            | ("argparse", "Namespace")
            | ("collections", "defaultdict" | "Counter")
            | ("builtins" | "__builtin__", "set" | "frozenset" | "list" | "dict" | "int" | "float" | "bytearray")
            | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct")
            | ("numpy", "dtype" | "ndarray")
            | ("pathlib", "PosixPath" | "WindowsPath")
            | ("_codecs", "encode") => Global::Opaque,
            _ => return None,
        })
    }
}
