//! What nodes are called: as the layer was called where the graph was written, if the file still says so.

use super::proto::Node;
use crate::net::MAX_NAME;

/// Before names that an exporter has invented.
const INVENTED: [&str; 3] = ["onnx::", "val_", "_"];

/// The name of what a node computes: that of its weight without `.weight`, or the path of its own name.
pub(super) fn of_node(node: &Node, weight: Option<&str>) -> String {
    let weight = weight.and_then(|name| name.strip_suffix(".weight"));
    let weight = weight.filter(|name| !INVENTED.iter().any(|start| name.starts_with(start)));
    let name = weight.map_or_else(|| path(&node.name, &node.op_type), str::to_owned);
    let name: String = name.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
    let mut end = name.len().min(MAX_NAME / 2);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    match &name[..end] {
        "" => node.op_type.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect(),
        name => name.to_owned(),
    }
}

/// `/layer1/layer1.0/conv1/Conv` as `layer1.0.conv1`: scopes one in the other, of which the later may repeat the earlier one.
fn path(name: &str, operator: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
    let is_operator = |part: &&str| {
        part.strip_prefix(operator).is_some_and(|rest| rest.chars().all(|c| c == '_' || c.is_ascii_digit()))
    };
    let last = parts.pop_if(|part| is_operator(&&**part));
    let mut path = String::new();
    for part in parts {
        let repeats = part.strip_prefix(&path[..]).is_some_and(|rest| !path.is_empty() && rest.starts_with('.'));
        match () {
            () if repeats => path = part.to_owned(),
            () if path.is_empty() => path.push_str(part),
            () => path = format!("{path}.{part}"),
        }
    }
    match (&path[..], last) {
        ("", Some(last)) => last.to_lowercase(),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, operator: &str, weight: Option<&str>) -> String {
        of_node(&Node { name: name.into(), op_type: operator.into(), ..Node::default() }, weight)
    }

    #[test]
    fn layers_keep_their_names() {
        assert_eq!(named("/layer1/layer1.0/conv1/Conv", "Conv", Some("layer1.0.conv1.weight")), "layer1.0.conv1");
        assert_eq!(named("/layer1/layer1.0/conv1/Conv", "Conv", Some("onnx::Conv_193")), "layer1.0.conv1");
        assert_eq!(named("/layer1/layer1.0/relu_1/Relu", "Relu", None), "layer1.0.relu_1");
        assert_eq!(named("node_Conv_12", "Conv", None), "node_Conv_12");
        assert_eq!(named("/Flatten", "Flatten", None), "flatten");
        assert_eq!(named("", "GlobalAveragePool", None), "globalaveragepool");
        assert_eq!(named("a\u{7}b", "Relu", None), "a_b");
        assert!(named(&"é".repeat(1000), "Relu", None).len() <= MAX_NAME);
    }
}
