//! What calls and persistent ids in a pickle stand for, as far as it is of use: dicts, storages, tensors and objects.

use super::{MAX_AXES, Machine, Problem};
use crate::weights::element::Element;
use crate::weights::printable;
use crate::weights::pytorch::value::{Global, Id, Object, Storage, Value, View};

impl<'a> Machine<'a> {
    /// What a call would return, for the few callables whose result is of use; an [`Object`] for any other.
    pub(super) fn call(&self, callable: Id, arguments: Id) -> Result<Value<'a>, Problem> {
        let Value::Tuple(items) = self.get(arguments) else {
            return Err("a call whose arguments are no tuple".into());
        };
        let object = |class| Value::Object(Box::new(Object { class, state: None, entries: Vec::new() }));
        let global = match self.get(callable) {
            Value::Global(global) => *global,
            // The result of a call is called: `getattr(…)(…)`.
            Value::Object(_) | Value::Opaque => return Ok(object(None)),
            _ => return Err("a call of something that is no function".into()),
        };
        match (global, &items[..]) {
            // Python 2 hands over a list of pairs; of a `defaultdict` there is the function that makes its values.
            (Global::Dict, &[pairs]) if self.items(pairs).is_some() => self.dict_of(pairs),
            (Global::Dict, _) => Ok(Value::Dict(Vec::new())),
            (Global::RebuildFromType, &[function, _, inner, ..]) => match self.get(function) {
                Value::Global(Global::RebuildFromType) => Err("a tensor of a subclass of a subclass".into()),
                _ => self.call(function, inner),
            },
            (Global::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                self.tensor(storage, None, [offset, shape, strides])
            }
            (Global::RebuildTypedTensor, &[storage, offset, shape, strides, _, _, dtype, ..]) => {
                match self.get(dtype) {
                    Value::Global(Global::Dtype(element)) => {
                        self.tensor(storage, Some(*element), [offset, shape, strides])
                    }
                    Value::Global(Global::Foreign(..) | Global::Opaque) => {
                        Ok(Value::Special("of a type of elements that is not known here"))
                    }
                    _ => Err("a tensor whose type of elements is no type".into()),
                }
            }
            (Global::RebuildParameter, &[tensor, ..]) => match self.get(tensor) {
                Value::Tensor(view) => Ok(Value::Tensor(view.clone())),
                Value::Special(kind) => Ok(Value::Special(kind)),
                _ => Err("a parameter without a tensor".into()),
            },
            (Global::RebuildSpecial(kind), _) => Ok(Value::Special(kind)),
            (Global::Reconstruct, &[class, ..]) => match self.get(class) {
                &Value::Global(Global::Foreign(module, name)) => Ok(object(Some((module, name)))),
                _ => Ok(object(None)),
            },
            // A set's members, which are those of a list.
            (Global::Opaque, &[members]) => match self.get(members) {
                Value::List(members) => Ok(Value::List(members.clone())),
                _ => Ok(Value::Opaque),
            },
            (Global::Opaque | Global::Dtype(_), _) => Ok(Value::Opaque),
            (Global::Foreign(module, name), _) => Ok(object(Some((module, name)))),
            (
                Global::RebuildTensor
                | Global::RebuildTypedTensor
                | Global::RebuildParameter
                | Global::RebuildFromType
                | Global::Reconstruct
                | Global::StorageType(_),
                items,
            ) => Err(format!("a call of {global:?} with {} arguments", items.len())),
        }
    }

    /// A dict from a list of pairs.
    fn dict_of(&self, pairs: Id) -> Result<Value<'a>, Problem> {
        let pair = |&pair: &Id| match self.items(pair) {
            Some(&[key, value]) => Some((key, value)),
            _ => None,
        };
        let pairs = self.items(pairs).and_then(|pairs| pairs.iter().map(pair).collect());
        pairs.map(Value::Dict).ok_or_else(|| "a dict of something that is no list of pairs".into())
    }

    /// What a persistent id stands for: a storage, or, in files of before 1.6, a class with its source.
    pub(super) fn persistent(&self, id: Id) -> Result<Value<'a>, Problem> {
        if let Some(&[tag, class, ..]) = self.items(id)
            && let (Value::Text("module"), &Value::Global(global)) = (self.get(tag), self.get(class))
        {
            return Ok(Value::Global(global));
        }
        Ok(Value::Storage(Box::new(self.storage(id)?)))
    }

    /// The storage that a persistent id `("storage", type, key, device, elements[, view])` describes.
    fn storage(&self, id: Id) -> Result<Storage<'a>, Problem> {
        let described = || {
            let (&[tag, kind, key, _, elements], view) = self.items(id)?.split_first_chunk::<5>()?;
            let (Value::Text("storage"), &Value::Global(Global::StorageType(element)), &Value::Text(key)) =
                (self.get(tag), self.get(kind), self.get(key))
            else {
                return None;
            };
            let elements = self.length(elements)?;
            elements.checked_mul(element.size())?;
            // Before 0.4 a storage could be part of another: its name, offset and length.
            let part = match view.first().map(|&view| self.get(view)) {
                Some(Value::Tuple(view)) => {
                    let &[_, offset, length] = &view[..] else { return None };
                    let offset = self.length(offset)?;
                    let end = offset.checked_add(self.length(length)?)?;
                    (end <= elements).then_some(offset..end)?
                }
                None | Some(_) => 0..elements,
            };
            Some(Storage { key, element, elements, part })
        };
        described().ok_or_else(|| "expected a storage with its type, name and number of elements".into())
    }

    /// A tensor; `element` is the type of its elements where the storage does not say it.
    fn tensor(&self, storage: Id, element: Option<Element>, place: [Id; 3]) -> Result<Value<'a>, Problem> {
        let Value::Storage(storage) = self.get(storage) else { return Err("a tensor without a storage".into()) };
        let storage = match element {
            None => (**storage).clone(),
            Some(element) => storage.retyped(element).ok_or("a tensor whose storage is no whole number of elements")?,
        };
        match storage.element.is_complex() {
            true => Ok(Value::Special("complex")),
            false => Ok(Value::Tensor(Box::new(self.view(storage, place)?))),
        }
    }

    /// A view of a storage, once every element is known to lie within it.
    fn view(&self, storage: Storage<'a>, [offset, shape, strides]: [Id; 3]) -> Result<View<'a>, Problem> {
        let lengths = |id| self.items(id)?.iter().map(|&length| self.length(length)).collect::<Option<Vec<usize>>>();
        let (Some(offset), Some(shape), Some(strides)) = (self.length(offset), lengths(shape), lengths(strides)) else {
            return Err("a tensor whose offset, shape or strides are not numbers of at least 0".into());
        };
        if shape.len() != strides.len() || shape.len() > MAX_AXES {
            let (axes, strides) = (shape.len(), strides.len());
            return Err(format!("a tensor of {axes} axes and {strides} strides: expected as many, at most {MAX_AXES}"));
        }
        let outside = || {
            let (key, length) = (printable(storage.key), storage.part.len());
            format!(
                "a tensor of shape {shape:?}, strides {strides:?} and offset {offset} leaves its storage '{key}' of \
                 {length} elements"
            )
        };
        let count = shape.iter().try_fold(1_usize, |count, &length| count.checked_mul(length)).ok_or_else(outside)?;
        let offset = offset.checked_add(storage.part.start).ok_or_else(outside)?;
        let last = || {
            let mut axes = shape.iter().zip(&strides);
            axes.try_fold(offset, |last, (&length, &stride)| last.checked_add((length - 1).checked_mul(stride)?))
        };
        if count > 0 && last().is_none_or(|last| last >= storage.part.end) {
            return Err(outside());
        }
        Ok(View { storage, offset, shape, strides })
    }
}
