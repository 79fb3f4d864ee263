//! A graph under way: nodes, constants, inputs and outputs, as the messages of `onnx.proto`.
//!
//! <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::store::file::write_atomically;
use crate::store::protobuf::Message;

/// Operators are those of this version.
const OPSET: u64 = 17;
/// The version of the format that came with [`OPSET`].
const IR_VERSION: u64 = 8;
/// What a reader of protocol buffers takes.
const MOST_BYTES: u64 = i32::MAX as u64;
/// The free dimension of inputs and outputs.
const BATCH: &str = "batch";

/// `TensorProto.DataType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Float = 1,
    Integer = 7,
    Double = 11,
}

/// A tensor of the graph, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value(String);

/// An attribute of a node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute<'a> {
    Integer(&'a str, i64),
    Integers(&'a str, &'a [i64]),
    Text(&'a str, &'a str),
}

impl Attribute<'_> {
    fn message(self) -> Message {
        // `AttributeProto.AttributeType`.
        const INTEGER: u64 = 2;
        const TEXT: u64 = 3;
        const INTEGERS: u64 = 7;
        let named = |name: &str| Message::default().bytes(1, name);
        match self {
            Self::Integer(name, value) => named(name).integer(3, value as u64).integer(20, INTEGER),
            Self::Text(name, value) => named(name).bytes(4, value).integer(20, TEXT),
            Self::Integers(name, values) => values
                .iter()
                .fold(named(name), |message, &value| message.integer(8, value as u64))
                .integer(20, INTEGERS),
        }
    }
}

/// A constant tensor: all of its field but the values' bytes, and those.
struct Constant {
    head: Message,
    data: Vec<u8>,
}

/// A graph under way.
pub(super) struct Graph {
    /// Of a `GraphProto`, everything but the constants.
    body: Message,
    constants: Vec<Constant>,
    /// Bytes of the constants.
    size: u64,
    /// Those of a file may be.
    most: u64,
    /// How often each name has been asked for.
    names: HashMap<String, usize>,
    /// Constants without a place of their own, by what they are.
    shared: HashMap<String, Value>,
}

impl Graph {
    pub fn new(name: &str) -> Self {
        Self::with_most(name, MOST_BYTES)
    }

    fn with_most(name: &str, most: u64) -> Self {
        Self {
            body: Message::default().bytes(2, name),
            constants: Vec::new(),
            size: 0,
            most,
            names: HashMap::new(),
            shared: HashMap::new(),
        }
    }

    fn unused(&mut self, name: &str) -> Value {
        let uses = self.names.entry(name.to_owned()).or_default();
        *uses += 1;
        Value(if *uses == 1 { name.to_owned() } else { format!("{name}_{}", *uses - 1) })
    }

    fn add(&mut self, field: u32, message: &Message) {
        self.body = std::mem::take(&mut self.body).message(field, message);
    }

    /// `shape` without the batch.
    pub fn input(&mut self, name: &str, kind: Type, shape: &[usize]) -> Value {
        self.add(11, &described(name, kind, shape));
        self.unused(name)
    }

    /// Gives a tensor out under a name of its own. `shape` without the batch.
    pub fn output(&mut self, name: &str, kind: Type, shape: &[usize], value: &Value) {
        self.add(12, &described(name, kind, shape));
        let node = Message::default().bytes(1, &value.0).bytes(2, name).bytes(3, name).bytes(4, "Identity");
        self.add(1, &node);
    }

    /// The output of a node of `operator`. `scope` is the path of the layer that it belongs to.
    pub fn node(&mut self, scope: &str, operator: &str, inputs: &[&Value], attributes: &[Attribute]) -> Value {
        let output = self.unused(&format!("{scope}/{operator}"));
        self.push_node(operator, &output.0, inputs, std::slice::from_ref(&output), attributes);
        output
    }

    /// Parts of a tensor along `axis`, of these sizes.
    pub fn split(&mut self, scope: &str, x: &Value, axis: i64, sizes: &[usize]) -> Vec<Value> {
        let name = self.unused(&format!("{scope}/Split"));
        let outputs: Vec<_> = (0..sizes.len()).map(|part| Value(format!("{}:{part}", name.0))).collect();
        let sizes: Vec<_> = sizes.iter().map(|&size| size as i64).collect();
        let sizes = self.integers(&sizes);
        self.push_node("Split", &name.0, &[x, &sizes], &outputs, &[Attribute::Integer("axis", axis)]);
        outputs
    }

    fn push_node(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&Value],
        outputs: &[Value],
        attributes: &[Attribute],
    ) {
        let node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, &input.0));
        let node = outputs.iter().fold(node, |node, output| node.bytes(2, &output.0));
        let node = node.bytes(3, name).bytes(4, operator);
        let node = attributes.iter().fold(node, |node, attribute| node.message(5, &attribute.message()));
        self.add(1, &node);
    }

    /// A constant of a layer.
    pub fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        let value = self.unused(name);
        self.push_constant(&value, Type::Float, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect());
        value
    }

    /// A constant that depends on `name` alone, stored once.
    pub fn shared(&mut self, name: &str, shape: &[usize], values: impl FnOnce() -> Vec<f32>) -> Value {
        if let Some(value) = self.shared.get(name) {
            return value.clone();
        }
        let value = self.constant(name, shape, &values());
        self.shared.insert(name.to_owned(), value.clone());
        value
    }

    /// A float.
    pub fn number(&mut self, value: f32) -> Value {
        self.shared(&format!("{value:?}"), &[], || vec![value])
    }

    /// A double, named.
    pub fn double(&mut self, name: &str, value: f64) -> Value {
        let name = self.unused(name);
        self.push_constant(&name, Type::Double, &[], value.to_le_bytes().to_vec());
        name
    }

    /// A list of doubles, named.
    pub fn doubles(&mut self, name: &str, values: &[f64]) -> Value {
        let name = self.unused(name);
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.push_constant(&name, Type::Double, &[values.len()], data);
        name
    }

    /// A list of integers: a shape, axes, sizes.
    pub fn integers(&mut self, values: &[i64]) -> Value {
        let key = format!("{values:?}");
        if let Some(value) = self.shared.get(&key) {
            return value.clone();
        }
        let value = self.unused(&key);
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.push_constant(&value, Type::Integer, &[values.len()], data);
        self.shared.insert(key, value.clone());
        value
    }

    fn push_constant(&mut self, name: &Value, kind: Type, shape: &[usize], data: Vec<u8>) {
        let tensor = shape.iter().fold(Message::default(), |tensor, &size| tensor.integer(1, size as u64));
        let tensor = tensor.integer(2, kind as u64).bytes(8, &name.0).head(9, data.len() as u64);
        let head = Message::default().head(5, (tensor.as_bytes().len() + data.len()) as u64).then(&tensor);
        self.size += head.as_bytes().len() as u64 + data.len() as u64;
        // What will not be written need not be held.
        if self.size <= self.most {
            self.constants.push(Constant { head, data });
        }
    }

    /// The whole model, beside and renamed. [`Error::File`] where it is too large.
    pub fn write(&self, path: &Path) -> Result<()> {
        let opset = Message::default().bytes(1, "").integer(2, OPSET);
        let head = Message::default()
            .integer(1, IR_VERSION)
            .bytes(2, env!("CARGO_PKG_NAME"))
            .bytes(3, env!("CARGO_PKG_VERSION"))
            .message(8, &opset)
            .head(7, self.body.as_bytes().len() as u64 + self.size);
        let needed = (head.as_bytes().len() + self.body.as_bytes().len()) as u64 + self.size;
        if needed > self.most {
            let most = self.most;
            return Err(Error::file(
                path,
                format!(
                    "Expected at most {most} bytes, which is all that an ONNX file holds, but the model is {needed}"
                ),
            ));
        }
        write_atomically(path, |writer| {
            writer.write_all(head.as_bytes())?;
            writer.write_all(self.body.as_bytes())?;
            self.constants.iter().try_for_each(|constant| {
                writer.write_all(constant.head.as_bytes())?;
                writer.write_all(&constant.data)
            })
        })
    }
}

/// A `ValueInfoProto`. `shape` without the batch.
fn described(name: &str, kind: Type, shape: &[usize]) -> Message {
    let batch = Message::default().message(1, &Message::default().bytes(2, BATCH));
    let shape = shape.iter().fold(batch, |shape, &size| shape.message(1, &Message::default().integer(1, size as u64)));
    let tensor = Message::default().integer(1, kind as u64).message(2, &shape);
    Message::default().bytes(1, name).message(2, &Message::default().message(1, &tensor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(most: u64) -> Graph {
        let mut graph = Graph::with_most("g", most);
        let x = graph.input("x", Type::Float, &[3]);
        let two = graph.number(2.0);
        let y = graph.node("layer", "Mul", &[&x, &two], &[]);
        graph.output("y", Type::Float, &[3], &y);
        graph
    }

    #[test]
    fn a_graph_is_the_messages_of_the_format() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.onnx");
        example(MOST_BYTES).write(&path).unwrap();
        let message = Message::default;
        let dimensions = message().message(1, &message().bytes(2, "batch")).message(1, &message().integer(1, 3));
        let described = |name: &str| {
            let tensor = message().integer(1, 1).message(2, &dimensions);
            message().bytes(1, name).message(2, &message().message(1, &tensor))
        };
        let multiply =
            message().bytes(1, "x").bytes(1, "2.0").bytes(2, "layer/Mul").bytes(3, "layer/Mul").bytes(4, "Mul");
        let identity = message().bytes(1, "layer/Mul").bytes(2, "y").bytes(3, "y").bytes(4, "Identity");
        let graph = message()
            .bytes(2, "g")
            .message(11, &described("x"))
            .message(1, &multiply)
            .message(12, &described("y"))
            .message(1, &identity)
            .message(5, &message().integer(2, 1).bytes(8, "2.0").bytes(9, 2f32.to_le_bytes()));
        let model = message()
            .integer(1, 8)
            .bytes(2, "glowflow")
            .bytes(3, env!("CARGO_PKG_VERSION"))
            .message(8, &message().bytes(1, "").integer(2, 17))
            .message(7, &graph);
        assert_eq!(std::fs::read(path).unwrap(), model.as_bytes());
    }

    #[test]
    fn names_are_used_once_and_what_is_shared_is_stored_once() {
        let mut graph = Graph::new("g");
        let x = graph.input("x", Type::Float, &[3]);
        let names = ["a/Exp", "a/Exp_1", "a/Exp_2"].map(|name| Value(name.into()));
        assert_eq!([(); 3].map(|()| graph.node("a", "Exp", &[&x], &[])), names);
        assert_ne!(graph.constant("w", &[1], &[1.0]), graph.constant("w", &[1], &[1.0]));
        assert_eq!(graph.number(0.5), graph.number(0.5));
        assert_eq!(graph.integers(&[1, 2]), graph.integers(&[1, 2]));
        assert_eq!(graph.constants.len(), 4);
    }

    #[test]
    fn a_file_of_just_the_most_bytes_is_written_and_one_more_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.onnx");
        example(MOST_BYTES).write(&path).unwrap();
        let len = std::fs::metadata(&path).unwrap().len();
        example(len).write(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let error = example(len - 1).write(&path).unwrap_err();
        assert!(matches!(&error, Error::File { path: named, .. } if *named == path), "{error:?}");
        let sentence = format!("Expected at most {} bytes, which is all that an ONNX file holds", len - 1);
        assert!(error.to_string().contains(&sentence) && error.to_string().ends_with(&format!("is {len}")), "{error}");
        // Not even the constants are held.
        let error = example(4).write(&path).unwrap_err();
        assert!(error.to_string().ends_with(&format!("is {len}")), "{error}");
        assert!(example(4).constants.is_empty() && !path.exists());
    }
}
