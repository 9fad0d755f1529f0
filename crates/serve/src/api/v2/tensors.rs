//! The bodies of `infer`: JSON alone, or JSON and after it the bytes of tensors, little-endian, in the order in which they are
//! named (Triton's binary tensor data extension).

use std::fmt;

use axum::http::HeaderMap;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{INPUT, LOGITS, PROBABILITIES};
use crate::api::problem::Problem;

/// The header that says where JSON ends and bytes begin.
pub(super) const HEADER_LENGTH: &str = "inference-header-content-length";
/// Deepest nesting of a tensor's numbers.
const DEEPEST: usize = 8;

/// A request to infer.
pub(super) struct Inference {
    pub(super) id: Option<String>,
    pub(super) pictures: Vec<Vec<f32>>,
    pub(super) outputs: Vec<Wanted>,
    /// Microseconds within which computing must begin.
    pub(super) timeout: Option<u64>,
}

/// An output that is asked for.
pub(super) struct Wanted {
    pub(super) is_probabilities: bool,
    /// The best of so many classes as texts, in place of all numbers; 0 for the numbers.
    pub(super) classes: usize,
    is_binary: bool,
}

/// What an output holds.
pub(super) enum Output {
    Numbers { shape: [usize; 2], values: Vec<f32> },
    Texts { shape: [usize; 2], texts: Vec<String> },
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    inputs: Vec<RequestInput>,
    #[serde(default)]
    outputs: Vec<RequestOutput>,
}

#[derive(Deserialize)]
struct RequestInput {
    name: String,
    shape: Vec<u64>,
    datatype: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    #[serde(default)]
    data: Option<Flat>,
}

#[derive(Deserialize)]
struct RequestOutput {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// Numbers of nested lists, or of one list, in their order.
#[derive(Debug, Default, PartialEq)]
struct Flat(Vec<f32>);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Flat, D::Error> {
        let mut flat = Flat::default();
        deserializer.deserialize_seq(List { into: &mut flat.0, depth: 0 })?;
        Ok(flat)
    }
}

/// Reads a list into what there is already.
struct List<'a> {
    into: &'a mut Vec<f32>,
    depth: usize,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, or lists of them")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Element { into: &mut *self.into, depth: self.depth })?.is_some() {}
        Ok(())
    }
}

/// A number, or a list of them.
struct Element<'a> {
    into: &'a mut Vec<f32>,
    depth: usize,
}

impl<'de> serde::de::DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a list of numbers")
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.into.push(number as f32);
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.into.push(number as f32);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.into.push(number as f32);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        if self.depth == DEEPEST {
            return Err(serde::de::Error::custom(format_args!("expected at most {DEEPEST} lists within one another")));
        }
        List { into: self.into, depth: self.depth + 1 }.visit_seq(list)
    }
}

/// How many bytes of the body are JSON, where the headers say it.
pub(super) fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Problem> {
    let Some(length) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let found = length.to_str().unwrap_or_default();
    let parsed = found.parse().map(Some);
    parsed.map_err(|_| {
        Problem::request(format!("{HEADER_LENGTH}: expected a number of bytes, got '{}'", found.escape_debug()))
    })
}

/// Reads a request for pictures of channels, height and width, and a network of so many classes.
pub(super) fn read(
    body: &[u8],
    json_length: Option<usize>,
    input: [usize; 3],
    classes: usize,
) -> Result<Inference, Problem> {
    let (json, binary) = match json_length {
        None => (body, &[][..]),
        Some(length) => body.split_at_checked(length).ok_or_else(|| {
            Problem::request(format!(
                "{HEADER_LENGTH}: the body has {} bytes, which are fewer than {length}",
                body.len()
            ))
        })?,
    };
    let request: Request = serde_json::from_slice(json)
        .map_err(|error| Problem::request(format!("the body is no request to infer: {error}")))?;
    let Request { id, parameters, inputs, outputs } = request;
    let found = inputs.len();
    let Ok([tensor]) = <[RequestInput; 1]>::try_from(inputs) else {
        return Err(Problem::request(format!("inputs: expected one, '{INPUT}', got {found}")));
    };
    let pictures = pictures(tensor, binary, input)?;
    let is_binary = flag(&parameters, "binary_data_output")?.unwrap_or(false);
    let outputs = match outputs.is_empty() {
        true => vec![Wanted { is_probabilities: false, classes: 0, is_binary }],
        false => outputs.iter().map(|output| wanted(output, classes, is_binary)).collect::<Result<_, _>>()?,
    };
    let timeout = number(&parameters, "timeout")?;
    if timeout == Some(0) {
        return Err(Problem::request("timeout: expected at least 1 microsecond"));
    }
    Ok(Inference { id, pictures, outputs, timeout })
}

/// The pictures of the input tensor.
fn pictures(tensor: RequestInput, binary: &[u8], input: [usize; 3]) -> Result<Vec<Vec<f32>>, Problem> {
    let RequestInput { name, shape, datatype, parameters, data } = tensor;
    if name != INPUT {
        return Err(Problem::request(format!("inputs: expected '{INPUT}', got '{}'", name.escape_debug())));
    }
    if datatype != "FP32" {
        return Err(Problem::request(format!(
            "input '{INPUT}': expected datatype FP32, got '{}'",
            datatype.escape_debug()
        )));
    }
    let [channels, height, width] = input.map(|side| side as u64);
    if shape.len() != 4 || shape[1..] != [channels, height, width] || shape[0] == 0 {
        let message = format!(
            "input '{INPUT}': expected shape [n, {channels}, {height}, {width}] of at least 1 picture, got {shape:?}"
        );
        return Err(Problem::request(message));
    }
    let values = match (number(&parameters, "binary_data_size")?, data) {
        (None, Some(Flat(values))) => values,
        (Some(size), None) => numbers(binary, size)?,
        (None, None) => {
            return Err(Problem::request(format!(
                "input '{INPUT}': expected data, or binary_data_size and bytes after the JSON"
            )));
        }
        (Some(_), Some(_)) => {
            return Err(Problem::request(format!("input '{INPUT}': expected data or binary_data_size, got both")));
        }
    };
    let picture: usize = input.iter().product();
    let expected = usize::try_from(shape[0]).ok().and_then(|count| count.checked_mul(picture));
    if expected != Some(values.len()) {
        let message = format!("input '{INPUT}': shape {shape:?} does not fit {} numbers", values.len());
        return Err(Problem::request(message));
    }
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        return Err(Problem::request(format!(
            "input '{INPUT}': number {index} is {}: expected finite numbers",
            values[index]
        )));
    }
    Ok(values.chunks_exact(picture).map(<[f32]>::to_vec).collect())
}

/// Little-endian numbers, which are all the bytes that there are.
fn numbers(binary: &[u8], size: u64) -> Result<Vec<f32>, Problem> {
    if size != binary.len() as u64 {
        let message =
            format!("input '{INPUT}': binary_data_size is {size}, but {} bytes follow the JSON", binary.len());
        return Err(Problem::request(message));
    }
    let (numbers, rest) = binary.as_chunks::<4>();
    match rest.is_empty() {
        true => Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        false => Err(Problem::request(format!("input '{INPUT}': expected 4 bytes for each number, got {size} bytes"))),
    }
}

fn wanted(output: &RequestOutput, classes: usize, is_binary: bool) -> Result<Wanted, Problem> {
    let is_probabilities = match output.name.as_str() {
        LOGITS => false,
        PROBABILITIES => true,
        other => {
            let found = other.escape_debug();
            return Err(Problem::request(format!("outputs: expected '{LOGITS}' or '{PROBABILITIES}', got '{found}'")));
        }
    };
    let best =
        number(&output.parameters, "classification")?.map_or(0, |best| usize::try_from(best).unwrap_or(usize::MAX));
    let is_binary = flag(&output.parameters, "binary_data")?.unwrap_or(is_binary);
    Ok(Wanted { is_probabilities, classes: best.min(classes), is_binary })
}

fn number(parameters: &Map<String, Value>, name: &str) -> Result<Option<u64>, Problem> {
    let of = |value: &Value| {
        value.as_u64().ok_or_else(|| Problem::request(format!("{name}: expected a whole number, got {value}")))
    };
    parameters.get(name).map(of).transpose()
}

fn flag(parameters: &Map<String, Value>, name: &str) -> Result<Option<bool>, Problem> {
    let of = |value: &Value| {
        value.as_bool().ok_or_else(|| Problem::request(format!("{name}: expected true or false, got {value}")))
    };
    parameters.get(name).map(of).transpose()
}

#[derive(Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<AnswerOutput>,
}

#[derive(Serialize)]
struct AnswerOutput {
    name: &'static str,
    shape: [usize; 2],
    datatype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

#[derive(Serialize)]
struct Size {
    binary_data_size: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data {
    Numbers(Vec<f32>),
    Texts(Vec<String>),
}

/// The answer's JSON and the bytes after it, of a model and its version.
pub(super) fn write(
    (model_name, version): (&str, u64),
    id: Option<&str>,
    wanted: &[Wanted],
    of_output: impl Fn(&Wanted) -> Output,
) -> (Vec<u8>, Vec<u8>) {
    let mut binary = Vec::new();
    let outputs = wanted.iter().map(|wanted| {
        let name = if wanted.is_probabilities { PROBABILITIES } else { LOGITS };
        let (shape, datatype, data) = match of_output(wanted) {
            Output::Numbers { shape, values } => (shape, "FP32", Data::Numbers(values)),
            Output::Texts { shape, texts } => (shape, "BYTES", Data::Texts(texts)),
        };
        if !wanted.is_binary {
            return AnswerOutput { name, shape, datatype, parameters: None, data: Some(data) };
        }
        let before = binary.len();
        match data {
            Data::Numbers(values) => binary.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Data::Texts(texts) => texts.iter().for_each(|text| {
                binary.extend((text.len() as u32).to_le_bytes());
                binary.extend(text.as_bytes());
            }),
        }
        let parameters = Some(Size { binary_data_size: binary.len() - before });
        AnswerOutput { name, shape, datatype, parameters, data: None }
    });
    let outputs = outputs.collect();
    let answer = Answer { model_name, model_version: version.to_string(), id, outputs };
    // Numbers, texts and names always are JSON.
    (serde_json::to_vec(&answer).unwrap_or_default(), binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(input: &str) -> Vec<u8> {
        format!("{{\"inputs\": [{input}]}}").into_bytes()
    }

    fn tensor(shape: &str, rest: &str) -> Vec<u8> {
        body(&format!("{{\"name\": \"input\", \"datatype\": \"FP32\", \"shape\": {shape}, {rest}}}"))
    }

    fn read(body: &[u8], json: Option<usize>) -> Result<Inference, String> {
        super::read(body, json, [1, 2, 2], 3).map_err(|problem| problem.message().to_owned())
    }

    #[test]
    fn numbers_come_flat_nested_or_as_bytes() {
        let expected = vec![vec![1.0, 2.5, -3.0, 4.0], vec![5.0, 6.0, 7.0, 8.0]];
        let flat = tensor("[2, 1, 2, 2]", "\"data\": [1, 2.5, -3, 4, 5, 6, 7, 8]");
        assert_eq!(read(&flat, None).unwrap().pictures, expected);
        let nested = tensor("[2, 1, 2, 2]", "\"data\": [[[[1, 2.5], [-3, 4]]], [[[5, 6], [7, 8]]]]");
        assert_eq!(read(&nested, None).unwrap().pictures, expected);
        let mut binary = tensor("[2, 1, 2, 2]", "\"parameters\": {\"binary_data_size\": 32}");
        let json = binary.len();
        binary.extend(expected.concat().iter().flat_map(|number: &f32| number.to_le_bytes()));
        assert_eq!(read(&binary, Some(json)).unwrap().pictures, expected);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let deep = format!("\"data\": {}1{}", "[".repeat(20), "]".repeat(20));
        let data = "\"data\": [1, 2, 3, 4]";
        for (body, expected) in [
            (b"{".to_vec(), "no request to infer"),
            (b"[]".to_vec(), "no request to infer"),
            (body(""), "expected one, 'input', got 0"),
            (
                body("{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [1, 1, 2, 2], \"data\": []}"),
                "expected 'input', got 'x'",
            ),
            (
                body("{\"name\": \"input\", \"datatype\": \"INT8\", \"shape\": [1, 1, 2, 2], \"data\": []}"),
                "expected datatype FP32",
            ),
            (tensor("[1, 2, 2]", data), "expected shape [n, 1, 2, 2]"),
            (tensor("[0, 1, 2, 2]", "\"data\": []"), "at least 1 picture"),
            (tensor("[2, 1, 2, 2]", data), "does not fit 4 numbers"),
            (tensor("[18446744073709551615, 1, 2, 2]", data), "does not fit 4 numbers"),
            (tensor("[1, 1, 2, 2]", "\"data\": [1, 2, 3, 1e39]"), "number 3 is inf"),
            (tensor("[1, 1, 2, 2]", "\"data\": [1, 2, 3, \"4\"]"), "a number, or a list of numbers"),
            (tensor("[1, 1, 2, 2]", &deep), "lists within one another"),
            (tensor("[1, 1, 2, 2]", "\"parameters\": {}"), "expected data"),
            (tensor("[1, 1, 2, 2]", "\"parameters\": {\"binary_data_size\": 16}"), "but 0 bytes follow"),
            (tensor("[1, 1, 2, 2]", "\"parameters\": {\"binary_data_size\": \"16\"}"), "expected a whole number"),
        ] {
            let found = read(&body, None).err().unwrap_or_default();
            assert!(found.contains(expected), "{expected}: {found}");
        }
        assert!(read(b"{}", Some(3)).err().unwrap().contains("fewer than 3"));
    }

    #[test]
    fn outputs_are_what_was_asked_for() {
        let asked = br#"{"id": "7", "parameters": {"timeout": 5}, "inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1, 2, 2],
            "data": [1, 2, 3, 4]}], "outputs": [{"name": "probabilities", "parameters": {"binary_data": true}},
            {"name": "logits", "parameters": {"classification": 9}}]}"#;
        let found = read(asked, None).unwrap();
        assert_eq!((found.id.as_deref(), found.timeout), (Some("7"), Some(5)));
        let (json, binary) = write(("m", 2), found.id.as_deref(), &found.outputs, |wanted| match wanted.classes {
            0 => Output::Numbers { shape: [1, 3], values: vec![0.25, 0.5, 0.25] },
            best => Output::Texts { shape: [1, best], texts: vec!["0.5:1:cat".to_owned(); best] },
        });
        let json: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!((&json["model_version"], &json["id"]), (&"2".into(), &"7".into()));
        assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 12);
        assert_eq!(json["outputs"][1]["data"].as_array().unwrap().len(), 3);
        assert_eq!(binary, [0.25_f32, 0.5, 0.25].map(f32::to_le_bytes).concat());
        let unknown =
            br#"{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1, 2, 2], "data": [1, 2, 3, 4]}],
            "outputs": [{"name": "x"}]}"#;
        assert!(read(unknown, None).err().unwrap().contains("expected 'logits' or 'probabilities'"));
    }
}
