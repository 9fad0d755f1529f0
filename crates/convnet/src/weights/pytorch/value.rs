//! What a pickle can hold: values that refer to each other by index, and the names that have a meaning here.

use std::ops::Range;

use crate::weights::element::Element;

/// A value's place in its pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(pub(super) u32);

/// A value, as far as it is of use.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// Something that is neither needed nor dangerous: a float, bytes, a number of NumPy's.
    Opaque,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian.
    Long(&'a [u8]),
    Text(&'a str),
    Tuple(Vec<Id>),
    /// A list or a set.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global<'a>),
    Storage(Box<Storage<'a>>),
    Tensor(Box<View<'a>>),
    /// A tensor whose elements cannot be read, and what is special about it: "quantised".
    Special(&'static str),
    /// What a call that means nothing here would have returned. Nothing was called.
    Object(Box<Object<'a>>),
}

/// An object as data: what would make it, and what would be put into it. What its class would be called with is of no use.
#[derive(Debug)]
pub(super) struct Object<'a> {
    /// The class or function, as (module, name); nothing where that is itself the result of a call.
    pub(super) class: Option<(&'a str, &'a str)>,
    /// Its attributes: a dict, or whatever its class takes.
    pub(super) state: Option<Id>,
    /// What is put into it as into a dict.
    pub(super) entries: Vec<(Id, Id)>,
}

impl Value<'_> {
    /// Bytes of memory that it takes.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Value::Opaque
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Long(_)
                | Value::Text(_)
                | Value::Global(_)
                | Value::Special(_) => 0,
                Value::Tuple(items) | Value::List(items) => size_of_val(&items[..]),
                Value::Dict(entries) => size_of_val(&entries[..]),
                Value::Storage(storage) => size_of_val(&**storage),
                Value::Tensor(view) => {
                    size_of_val(&**view) + size_of_val(&view.shape[..]) + size_of_val(&view.strides[..])
                }
                Value::Object(object) => size_of_val(&**object) + size_of_val(&object.entries[..]),
            }
    }
}

/// A name that a pickle mentions. It is never imported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global<'a> {
    /// `collections.OrderedDict` and other classes of dicts.
    Dict,
    /// `torch.FloatStorage` and its kind: a type of elements.
    StorageType(Element),
    /// `torch.uint16` and its kind, where a tensor can have it.
    Dtype(Element),
    RebuildTensor,
    /// The same for the types that have no storage class: the type of elements is an argument.
    RebuildTypedTensor,
    RebuildParameter,
    /// A tensor of a subclass: a function and its arguments.
    RebuildFromType,
    /// A tensor whose elements cannot be read, and what it is.
    RebuildSpecial(&'static str),
    /// `copyreg._reconstructor`: an object of the class that is its first argument.
    Reconstruct,
    /// Something harmless; whatever is made with it is opaque.
    Opaque,
    /// Any other, as (module, name).
    Foreign(&'a str, &'a str),
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

    /// The same bytes as elements of another type, if they are whole ones.
    pub(super) fn retyped(&self, element: Element) -> Option<Self> {
        let (old, new) = (self.element.size(), element.size());
        let convert = |count: usize| (count * old).is_multiple_of(new).then(|| count * old / new);
        let (start, end) = (convert(self.part.start)?, convert(self.part.end)?);
        Some(Storage { element, elements: convert(self.elements)?, part: start..end, ..self.clone() })
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

impl<'a> Global<'a> {
    /// The meaning of `module.name`.
    pub(super) fn find(module: &'a str, name: &'a str) -> Global<'a> {
        match (module, name) {
            ("collections", "OrderedDict" | "defaultdict" | "Counter") => Global::Dict,
            ("builtins" | "__builtin__", "dict") => Global::Dict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTypedTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
            | ("torch.nn.parameter", "Parameter" | "Buffer")
            | ("torch.autograd.variable", "Variable") => Global::RebuildParameter,
            ("torch._tensor", "_rebuild_from_type_v2" | "_rebuild_from_type") => Global::RebuildFromType,
            ("torch._utils", "_rebuild_qtensor") => Global::RebuildSpecial("quantised"),
            ("torch._utils", "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor") => {
                Global::RebuildSpecial("sparse")
            }
            ("torch._utils", "_rebuild_meta_tensor_no_storage") => {
                Global::RebuildSpecial("without elements (of the device 'meta')")
            }
            ("torch._utils", "_rebuild_nested_tensor") => Global::RebuildSpecial("nested"),
            ("torch._utils", name) if name.starts_with("_rebuild_") => {
                Global::RebuildSpecial("of a kind that only PyTorch can rebuild")
            }
            ("copyreg" | "copy_reg", "_reconstructor") => Global::Reconstruct,
            ("torch.storage", "UntypedStorage") => Global::StorageType(Element::U8),
            ("torch", name) => Global::find_in_torch(name).unwrap_or(Global::Foreign(module, name)),
            ("builtins" | "__builtin__", name) if HARMLESS.contains(&name) => Global::Opaque,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct")
            | ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer")
            | ("numpy", "dtype" | "ndarray")
            | ("pathlib", "Path" | "PosixPath" | "WindowsPath")
            | ("pathlib._local", "Path" | "PosixPath" | "WindowsPath")
            | ("_codecs", "encode") => Global::Opaque,
            ("numpy.dtypes", _) => Global::Opaque,
            _ => Global::Foreign(module, name),
        }
    }

    /// The meaning of `torch.name`, if it has one here.
    fn find_in_torch(name: &str) -> Option<Global<'a>> {
        if let Some(kind) = name.strip_suffix("Storage") {
            let element = match kind {
                "Double" => Element::F64,
                "Float" => Element::F32,
                "Half" => Element::F16,
                "BFloat16" => Element::BF16,
                "Long" => Element::I64,
                "Int" | "QInt32" => Element::I32,
                "Short" => Element::I16,
                "Char" | "QInt8" => Element::I8,
                "Byte" | "QUInt8" | "QUInt4x2" | "QUInt2x4" => Element::U8,
                "Bool" => Element::Bool,
                "ComplexFloat" => Element::C64,
                "ComplexDouble" => Element::C128,
                _ => return None,
            };
            return Some(Global::StorageType(element));
        }
        Some(match name {
            "float64" => Global::Dtype(Element::F64),
            "float32" => Global::Dtype(Element::F32),
            "float16" => Global::Dtype(Element::F16),
            "bfloat16" => Global::Dtype(Element::BF16),
            "int64" => Global::Dtype(Element::I64),
            "int32" => Global::Dtype(Element::I32),
            "int16" => Global::Dtype(Element::I16),
            "int8" => Global::Dtype(Element::I8),
            "uint64" => Global::Dtype(Element::U64),
            "uint32" => Global::Dtype(Element::U32),
            "uint16" => Global::Dtype(Element::U16),
            "uint8" => Global::Dtype(Element::U8),
            "bool" => Global::Dtype(Element::Bool),
            "float8_e4m3fn" => Global::Dtype(Element::F8E4M3),
            "float8_e5m2" => Global::Dtype(Element::F8E5M2),
            "complex64" => Global::Dtype(Element::C64),
            "complex128" => Global::Dtype(Element::C128),
            "Size" | "device" | "strided" | "sparse_coo" | "channels_last" | "contiguous_format"
            | "preserve_format" | "per_tensor_affine" | "per_channel_affine" | "qint8" | "quint8" | "qint32" => {
                Global::Opaque
            }
            _ => return None,
        })
    }
}

/// Python's own types, of which objects beside weights are made.
const HARMLESS: [&str; 18] = [
    "set",
    "frozenset",
    "list",
    "tuple",
    "int",
    "float",
    "bool",
    "str",
    "bytes",
    "bytearray",
    "complex",
    "object",
    "type",
    "slice",
    "range",
    "xrange",
    "long",
    "unicode",
];
