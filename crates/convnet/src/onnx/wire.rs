//! A look at a file's bytes before they become messages: how many there would be, and how deep. A message of no bytes takes two
//! bytes in a file and hundreds in memory.

use super::constant::MAX_COMPUTED;

/// Most fields of all messages that are read.
const MAX_FIELDS: usize = 1 << 21;
/// Most nodes of a graph.
pub(super) const MAX_NODES: usize = 100_000;

/// A kind of message: which of its fields are messages that are read, of which kind.
struct Kind {
    messages: &'static [(u64, &'static Kind)],
}

const LEAF: Kind = Kind { messages: &[] };
const TENSOR: Kind = Kind { messages: &[(13, &LEAF)] };
const ATTRIBUTE: Kind = Kind { messages: &[(5, &TENSOR)] };
const NODE: Kind = Kind { messages: &[(5, &ATTRIBUTE)] };
const DIMENSIONS: Kind = Kind { messages: &[(1, &LEAF)] };
const TENSOR_TYPE: Kind = Kind { messages: &[(2, &DIMENSIONS)] };
const TYPE: Kind = Kind { messages: &[(1, &TENSOR_TYPE)] };
const VALUE: Kind = Kind { messages: &[(2, &TYPE)] };
const GRAPH: Kind = Kind { messages: &[(1, &NODE), (5, &TENSOR), (11, &VALUE), (12, &VALUE)] };
const MODEL: Kind = Kind { messages: &[(7, &GRAPH), (8, &LEAF), (14, &LEAF)] };

/// Checks that a file is a list of fields, and not of too many.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(model: &[u8]) -> Result<(), String> {
    let mut left = MAX_FIELDS;
    fields(model, &MODEL, &mut left)
}

fn fields(mut bytes: &[u8], kind: &Kind, left: &mut usize) -> Result<(), String> {
    while !bytes.is_empty() {
        *left = left.checked_sub(1).ok_or_else(|| format!("expected at most {MAX_FIELDS} fields"))?;
        let key = varint(&mut bytes)?;
        let length = match key & 7 {
            0 => {
                varint(&mut bytes)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).unwrap_or(usize::MAX),
            5 => 4,
            _ => return Err("it is damaged, or no ONNX model".into()),
        };
        let content = bytes.get(..length).ok_or("it is cut off, damaged, or no ONNX model")?;
        bytes = &bytes[length..];
        if let Some((_, inner)) = kind.messages.iter().find(|(field, _)| key == field << 3 | 2) {
            fields(content, inner, left)?;
        }
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for place in 0..10 {
        let (&byte, rest) = bytes.split_first().ok_or("it is cut off, damaged, or no ONNX model")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * place).min(63);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("it is damaged, or no ONNX model".into())
}

const _: () = assert!(MAX_NODES < MAX_FIELDS && MAX_FIELDS < MAX_COMPUTED);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_before_they_are_read() {
        // A graph of empty nodes.
        let nodes = [0x0a, 0].repeat(MAX_FIELDS);
        let mut model = vec![0x3a];
        let mut length = nodes.len();
        while length >= 0x80 {
            model.push(length as u8 | 0x80);
            length >>= 7;
        }
        model.push(length as u8);
        model.extend(&nodes);
        assert!(check(&model).unwrap_err().contains("at most"));
        assert!(check(&model[..model.len() - 1]).unwrap_err().contains("cut off"));
        assert_eq!(check(&[0x08, 8]), Ok(()));
        for damaged in
            [&[0x08][..], &[0x0b, 0], &[0xff; 20], &[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]]
        {
            assert!(check(damaged).is_err());
        }
    }
}
