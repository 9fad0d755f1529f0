//! Python's pickle format, read as data. A pickle is a program for a small stack machine whose instructions may call
//! anything that Python can import. This machine calls nothing: it knows a list of names ([`Global`]) and builds values in
//! an arena for those it needs. For any other it notes what would have been called ([`super::value::Object`]).
//!
//! Values refer to each other by index, so nothing here recurses, not even to let go of them, and a value that is
//! mentioned a thousand times takes its place once. A pickle may have [`MAX_BYTES`], of which text and bytes are not
//! copied, fill [`MAX_MEMORY`], remember [`MAX_REMEMBERED`] values, and hold [`MAX_STACK`] of them and [`MAX_MARKS`] marks
//! at a time: in all less than 128 MB beside the pickle itself.

mod call;

use std::collections::{BTreeSet, HashMap};

use super::op;
use super::value::{Global, Id, Storage, Value};

/// Longest pickle that is read, its tensors' elements not counted. Those of torchvision's nets take up to 0.2 MB; arrays
/// that lie beside the weights are part of it.
pub(super) const MAX_BYTES: usize = 1 << 30;
/// Most bytes of memory that a pickle's values may take: room for a million of them.
const MAX_MEMORY: usize = 32 << 20;
/// Most values that a pickle may name to mention them again.
const MAX_REMEMBERED: usize = 1 << 20;
/// Most values on the stack.
const MAX_STACK: usize = 1 << 16;
/// Most containers that are filled within each other.
const MAX_MARKS: usize = 256;
/// Most foreign names that are kept to be told.
const MAX_FOREIGN: usize = 64;
/// Most axes of a tensor.
const MAX_AXES: usize = 16;

/// What went wrong, without the file's name.
pub(super) type Problem = String;

/// A pickle's values.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
    foreign: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Pickle<'a> {
    /// Reads one pickle at the start of `bytes`; also says how many bytes it took.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<(Pickle<'a>, usize), Problem> {
        let mut machine = Machine::new(bytes);
        let root = loop {
            let start = machine.at;
            let problem = |problem| format!("its pickle, at byte {start}: {problem}");
            let op = machine.byte().map_err(problem)?;
            if op == op::STOP {
                break machine.pop().map_err(problem)?;
            }
            machine.step(op).map_err(problem)?;
        };
        Ok((Pickle { values: machine.values, root, foreign: machine.foreign }, machine.at))
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    /// The entries of a dict, or of an object that is filled as one, whose keys are text, in the file's order; nothing for
    /// another value.
    pub(super) fn entries(&self, id: Id) -> Option<impl Iterator<Item = (&'a str, Id)>> {
        let entries = match self.get(id) {
            Value::Dict(entries) => entries,
            Value::Object(object) => &object.entries,
            _ => return None,
        };
        Some(entries.iter().filter_map(|&(key, value)| Some((self.text(key)?, value))))
    }

    /// The attributes of an object, where they are a dict.
    pub(super) fn attributes(&self, id: Id) -> Option<impl Iterator<Item = (&'a str, Id)>> {
        let Value::Object(object) = self.get(id) else { return None };
        self.entries(object.state?)
    }

    /// Classes and functions that the pickle mentions and that mean nothing here, as (module, name).
    pub(super) fn foreign(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.foreign.iter().copied()
    }

    /// Every mention of a storage.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage<'a>> {
        self.values.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some(&**storage),
            _ => None,
        })
    }

    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The machine between two instructions.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    /// Bytes that the values take.
    memory: usize,
    stack: Vec<Id>,
    /// Heights of the stack that containers begin at.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    foreign: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Machine<'a> {
        let (values, stack, marks, memo, foreign) = Default::default();
        Machine { bytes, at: 0, values, memory: 0, stack, marks, memo, foreign }
    }

    /// Carries out one instruction; it and the three after it share the instructions among them.
    fn step(&mut self, op: u8) -> Result<(), Problem> {
        match op {
            op::PROTO => match self.byte()? {
                2..=5 => Ok(()),
                protocol => Err(format!("protocol {protocol}: expected 2 to 5")),
            },
            op::FRAME => self.take(8).map(|_| ()),
            op::MARK if self.marks.len() == MAX_MARKS => Err(format!("more than {MAX_MARKS} values within each other")),
            op::MARK => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            op::POP => self.pop().map(|_| ()),
            op::POP_MARK => self.pop_marked().map(|_| ()),
            op::BINPUT => {
                let index = self.byte()?.into();
                self.remember(index)
            }
            op::LONG_BINPUT => {
                let index = self.u32()?;
                self.remember(index)
            }
            op::MEMOIZE => self.remember(self.memo.len() as u32),
            op::BINGET => {
                let index = self.byte()?.into();
                self.recall(index)
            }
            op::LONG_BINGET => {
                let index = self.u32()?;
                self.recall(index)
            }
            _ => self.literal(op),
        }
    }

    /// Instructions that push what stands behind them.
    fn literal(&mut self, op: u8) -> Result<(), Problem> {
        let value = match op {
            op::NONE => Value::Opaque,
            op::NEWTRUE => Value::Bool(true),
            op::NEWFALSE => Value::Bool(false),
            op::BININT => Value::Int(self.u32()?.cast_signed().into()),
            op::BININT1 => Value::Int(self.byte()?.into()),
            op::BININT2 => Value::Int(u16::from_le_bytes(self.array()?).into()),
            op::LONG1 => {
                let length = self.byte()?;
                long(self.take(length.into())?)
            }
            op::LONG4 => {
                let length = self.u32()?;
                long(self.take(length as usize)?)
            }
            op::BINFLOAT => {
                self.take(8)?;
                Value::Opaque
            }
            op::BINUNICODE | op::BINUNICODE8 | op::SHORT_BINUNICODE => Value::Text(self.counted_text(op)?),
            // Python 2 wrote names as byte strings.
            op::BINSTRING | op::SHORT_BINSTRING => {
                std::str::from_utf8(self.counted(op)?).map_or(Value::Opaque, Value::Text)
            }
            op::BINBYTES | op::SHORT_BINBYTES | op::BINBYTES8 | op::BYTEARRAY8 => {
                self.counted(op)?;
                Value::Opaque
            }
            _ => return self.container(op),
        };
        self.push(value)
    }

    /// Instructions that make and fill containers.
    fn container(&mut self, op: u8) -> Result<(), Problem> {
        match op {
            op::EMPTY_TUPLE => self.push(Value::Tuple(Vec::new())),
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let count = usize::from(op - op::TUPLE1) + 1;
                let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
                let items = self.stack.split_off(start.ok_or("the stack is empty")?);
                self.push(Value::Tuple(items))
            }
            op::TUPLE => {
                let items = self.pop_marked()?;
                self.push(Value::Tuple(items))
            }
            op::EMPTY_LIST => self.push(Value::List(Vec::new())),
            op::APPEND => {
                let item = self.pop()?;
                self.extend(&[item])
            }
            op::APPENDS | op::ADDITEMS => {
                let items = self.pop_marked()?;
                self.extend(&items)
            }
            op::EMPTY_DICT => self.push(Value::Dict(Vec::new())),
            op::SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])
            }
            op::SETITEMS => {
                let items = self.pop_marked()?;
                self.set_items(&items)
            }
            op::EMPTY_SET => self.push(Value::List(Vec::new())),
            op::FROZENSET => {
                let items = self.pop_marked()?;
                self.push(Value::List(items))
            }
            _ => self.object(op),
        }
    }

    /// Instructions that would import and call.
    fn object(&mut self, op: u8) -> Result<(), Problem> {
        match op {
            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_global(module, name)
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.get(module), self.get(name)) {
                    (&Value::Text(module), &Value::Text(name)) => self.push_global(module, name),
                    _ => Err("expected the name of a class or function".into()),
                }
            }
            op::BINPERSID => {
                let id = self.pop()?;
                let value = self.persistent(id)?;
                self.push(value)
            }
            op::REDUCE | op::NEWOBJ => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let value = self.call(callable, arguments)?;
                self.push(value)
            }
            op::NEWOBJ_EX => {
                let (_, arguments, callable) = (self.pop()?, self.pop()?, self.pop()?);
                let value = self.call(callable, arguments)?;
                self.push(value)
            }
            // Attributes. Those of a dict, such as `_metadata` of a state dict, are not needed.
            op::BUILD => {
                let state = self.pop()?;
                if let Value::Object(object) = self.top_value()? {
                    object.state = Some(state);
                }
                Ok(())
            }
            _ => Err(format!("instruction {op:#04x} is not one that PyTorch writes")),
        }
    }

    fn push_global(&mut self, module: &'a str, name: &'a str) -> Result<(), Problem> {
        let global = Global::find(module, name);
        if let Global::Foreign(module, name) = global
            && self.foreign.len() < MAX_FOREIGN
        {
            self.foreign.insert((module, name));
        }
        self.push(Value::Global(global))
    }

    /// Adds items to the list on top; what is opaque swallows them.
    fn extend(&mut self, items: &[Id]) -> Result<(), Problem> {
        self.use_memory(size_of_val(items))?;
        match self.top_value()? {
            Value::List(list) => list.extend(items),
            Value::Opaque | Value::Object(_) => {}
            _ => return Err("items for something that is no list".into()),
        }
        Ok(())
    }

    /// Adds keys and values, in turns, to the dict on top; what is opaque swallows them.
    fn set_items(&mut self, items: &[Id]) -> Result<(), Problem> {
        self.use_memory(size_of_val(items))?;
        let (pairs, []) = items.as_chunks::<2>() else { return Err("a key without a value".into()) };
        let pairs = pairs.iter().map(|&[key, value]| (key, value));
        match self.top_value()? {
            Value::Dict(dict) => dict.extend(pairs),
            Value::Object(object) => object.entries.extend(pairs),
            Value::Opaque => {}
            _ => return Err("entries for something that is no dict".into()),
        }
        Ok(())
    }

    fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    /// The items of a tuple or list.
    fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// A number of things.
    fn length(&self, id: Id) -> Option<usize> {
        match *self.get(id) {
            Value::Int(number) => number.try_into().ok(),
            _ => None,
        }
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), Problem> {
        self.use_memory(value.size())?;
        self.values.push(value);
        self.push_id(Id((self.values.len() - 1) as u32))
    }

    fn use_memory(&mut self, bytes: usize) -> Result<(), Problem> {
        self.memory += bytes;
        match self.memory > MAX_MEMORY {
            true => Err(format!("its values take more than {MAX_MEMORY} bytes")),
            false => Ok(()),
        }
    }

    fn push_id(&mut self, id: Id) -> Result<(), Problem> {
        if self.stack.len() == MAX_STACK {
            return Err(format!("more than {MAX_STACK} values on the stack"));
        }
        self.stack.push(id);
        Ok(())
    }

    /// Height of the stack below which the container that is being filled must not reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, Problem> {
        let top = self.stack.last().filter(|_| self.stack.len() > self.floor());
        top.copied().ok_or_else(|| "the stack is empty".into())
    }

    fn top_value(&mut self) -> Result<&mut Value<'a>, Problem> {
        let top = self.top()?;
        Ok(&mut self.values[top.0 as usize])
    }

    fn pop(&mut self) -> Result<Id, Problem> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Everything above the last mark, which goes too.
    fn pop_marked(&mut self) -> Result<Vec<Id>, Problem> {
        let mark = self.marks.pop().ok_or("a container that was never begun")?;
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, index: u32) -> Result<(), Problem> {
        let top = self.top()?;
        if self.memo.len() == MAX_REMEMBERED {
            return Err(format!("more than {MAX_REMEMBERED} values to mention again"));
        }
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), Problem> {
        let id = self.memo.get(&index).copied().ok_or_else(|| format!("value {index} was never remembered"))?;
        self.push_id(id)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Problem> {
        let left = &self.bytes[self.at..];
        let taken =
            left.get(..length).ok_or_else(|| format!("truncated: expected {length} more bytes, got {}", left.len()))?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let taken = self.take(N)?;
        Ok(*taken.first_chunk().expect("as many as were asked for"))
    }

    fn byte(&mut self) -> Result<u8, Problem> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, Problem> {
        self.array().map(u32::from_le_bytes)
    }

    /// Bytes after their number, which itself takes as many bytes as the instruction says.
    fn counted(&mut self, op: u8) -> Result<&'a [u8], Problem> {
        let length = match op {
            op::SHORT_BINUNICODE | op::SHORT_BINSTRING | op::SHORT_BINBYTES => self.byte()?.into(),
            op::BINUNICODE8 | op::BINBYTES8 | op::BYTEARRAY8 => u64::from_le_bytes(self.array()?),
            _ => self.u32()?.into(),
        };
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn counted_text(&mut self, op: u8) -> Result<&'a str, Problem> {
        std::str::from_utf8(self.counted(op)?).map_err(|_| "expected text in UTF-8".into())
    }

    /// Text up to a line's end.
    fn line(&mut self) -> Result<&'a str, Problem> {
        let left = &self.bytes[self.at..];
        let end = left.iter().position(|&byte| byte == b'\n').ok_or("truncated: expected a name and a line's end")?;
        self.at += end + 1;
        std::str::from_utf8(&left[..end]).map_err(|_| "expected a name in UTF-8".into())
    }
}

/// An integer in two's complement.
fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut number = [if negative { 0xff } else { 0 }; 8];
    number[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(number))
}
