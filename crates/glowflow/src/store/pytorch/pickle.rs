//! Pickles as `torch.save` writes them, read without running anything.
//!
//! A pickle is a program for a stack machine that may call any Python function. Here it builds values in an arena; the
//! few functions that a checkpoint of tensors calls are known by name and described, not called, and any other is an
//! error that names it. Protocols 0 to 5.

use std::collections::HashMap;
use std::ops::Index;

use super::archive::Storage;

/// Bytes of the longest pickle that is read.
pub(super) const LONGEST: u64 = 32 << 20;
/// Values that a pickle may make, and items that it may copy: some fifty for each tensor.
const MOST_VALUES: usize = 2 << 20;
/// Arguments of a call, and axes of a tensor.
const MOST_ITEMS: usize = 16;
/// Bytes of a storage's name.
const LONGEST_KEY: usize = 64;

/// A value's place in its [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

/// What a pickle can hold here.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(String),
    /// Bytes, and integers of more than 64 bits, little-endian.
    Bytes(Vec<u8>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Storage(Box<Storage>),
    Tensor(Box<View>),
    /// A function or class of [`known`].
    Global(Global),
    /// Something that no tensor depends on.
    Other,
}

/// A tensor as a view into its storage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub storage: Storage,
    /// Elements before the first one.
    pub offset: u64,
    pub shape: Vec<usize>,
    /// Elements from one to the next along each axis.
    pub stride: Vec<usize>,
}

/// The functions and classes that may be named.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global {
    /// Gives a tensor: storage, offset, shape, stride.
    RebuildTensor,
    /// Gives its first argument.
    First,
    /// Gives a dictionary, of pairs where it has an argument.
    Dict,
    /// A storage's class, with the type of its elements.
    Storage(ElementType),
    /// Gives something that no tensor depends on.
    Other,
}

/// Types of a storage's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementType {
    F16,
    BF16,
    F32,
    F64,
    U8,
    I8,
    I16,
    I32,
    I64,
    Bool,
}

impl ElementType {
    pub fn bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

/// The function or class of this name, if a checkpoint may name it.
fn known(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
        | ("torch.nn.parameter", "Parameter" | "Buffer")
        | ("torch", "Size")
        | ("builtins" | "__builtin__", "list" | "tuple") => Global::First,
        ("collections", "OrderedDict" | "defaultdict" | "Counter") | ("builtins" | "__builtin__", "dict") => {
            Global::Dict
        }
        ("torch" | "torch.cuda", storage) if storage.ends_with("Storage") => Global::Storage(match storage {
            "HalfStorage" => ElementType::F16,
            "BFloat16Storage" => ElementType::BF16,
            "FloatStorage" => ElementType::F32,
            "DoubleStorage" => ElementType::F64,
            "ByteStorage" => ElementType::U8,
            "CharStorage" => ElementType::I8,
            "ShortStorage" => ElementType::I16,
            "IntStorage" => ElementType::I32,
            "LongStorage" => ElementType::I64,
            "BoolStorage" => ElementType::Bool,
            _ => return None,
        }),
        ("torch", "device")
        | ("torch", "float16" | "bfloat16" | "float32" | "float64" | "uint8" | "int8" | "int16" | "int32" | "int64")
        | ("torch", "bool")
        | ("_codecs", "encode")
        | ("builtins" | "__builtin__", "set" | "frozenset" | "bytearray" | "int" | "float" | "bool" | "complex") => {
            Global::Other
        }
        _ => return None,
    })
}

/// A pickle's values.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    /// What the pickle is of.
    pub root: Id,
}

impl Index<Id> for Pickle {
    type Output = Value;

    fn index(&self, id: Id) -> &Value {
        &self.values[id.0 as usize]
    }
}

impl Pickle {
    /// Reads the pickle at the front of `bytes` and moves them past it. An error is a sentence without the file.
    pub fn read(bytes: &mut &[u8]) -> Result<Self, String> {
        let (values, stack, marks, memo) = (Vec::new(), Vec::new(), Vec::new(), HashMap::new());
        let mut machine = Machine { bytes, values, stack, marks, memo, copied: 0 };
        let root = machine.run()?;
        Ok(Self { values: machine.values, root })
    }

    /// Every value, in the order in which they were made.
    pub fn values(&self) -> &[Value] {
        &self.values
    }
}

/// The stack machine.
struct Machine<'a, 'b> {
    bytes: &'a mut &'b [u8],
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Lengths that the stack had.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// Items of collections made from others.
    copied: usize,
}

impl Machine<'_, '_> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let [opcode] = self.array()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => {
                    let [protocol] = self.array()?;
                    if protocol > 5 {
                        return Err(format!("Expected a pickle of protocol 0 to 5 but found {protocol}"));
                    }
                }
                // FRAME: its length says nothing that the opcodes do not.
                0x95 => drop(self.array::<8>()?),
                b'(' => {
                    self.room(self.marks.len())?;
                    self.marks.push(self.stack.len());
                }
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_to_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.push_id(top)?;
                }

                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Bool(true))?,
                0x89 => self.push(Value::Bool(false))?,
                b'K' => {
                    let [value] = self.array()?;
                    self.push(Value::Int(value.into()))?;
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(value.into()))?;
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(value.into()))?;
                }
                0x8a | 0x8b => {
                    let len = if opcode == 0x8a { self.length::<1>()? } else { self.length::<4>()? };
                    let value = long(self.take(len)?);
                    self.push(value)?;
                }
                b'I' | b'L' => {
                    let line = self.line()?;
                    let value = match (opcode, line.as_str()) {
                        (b'I', "00") => Value::Bool(false),
                        (b'I', "01") => Value::Bool(true),
                        _ => Value::Int(
                            line.trim_end_matches('L').parse().map_err(|_| "Expected an integer in the pickle")?,
                        ),
                    };
                    self.push(value)?;
                }
                b'G' => {
                    self.array::<8>()?;
                    self.push(Value::Float)?;
                }
                b'F' => {
                    self.line()?;
                    self.push(Value::Float)?;
                }
                b'X' => self.text::<4>()?,
                0x8c => self.text::<1>()?,
                0x8d => self.text::<8>()?,
                b'V' => {
                    let text = self.line()?;
                    self.push(Value::Text(text))?;
                }
                b'S' => {
                    let text = self.line()?;
                    self.push(Value::Text(text.trim_matches(['\'', '"']).to_owned()))?;
                }
                // Strings of Python 2, which are its names, too.
                b'T' => self.text::<4>()?,
                b'U' => self.text::<1>()?,
                b'B' => self.byte_string::<4>()?,
                b'C' => self.byte_string::<1>()?,
                0x8e | 0x96 => self.byte_string::<8>()?,

                b')' => self.push(Value::Tuple(Vec::new()))?,
                b']' => self.push(Value::List(Vec::new()))?,
                b'}' => self.push(Value::Dict(Vec::new()))?,
                0x8f => self.push(Value::Other)?,
                b't' | b'l' | 0x91 => {
                    let items = self.pop_to_mark()?;
                    self.push(match opcode {
                        b't' => Value::Tuple(items),
                        b'l' => Value::List(items),
                        _ => Value::Other,
                    })?;
                }
                b'd' => {
                    let items = self.pop_to_mark()?;
                    self.push(Value::Dict(pairs(items)?))?;
                }
                0x85..=0x87 => {
                    let mut items = Vec::with_capacity(3);
                    for _ in 0x85..=opcode {
                        items.push(self.pop()?);
                    }
                    items.reverse();
                    self.push(Value::Tuple(items))?;
                }
                b'a' | b'e' | 0x90 => {
                    let items = if opcode == b'a' { vec![self.pop()?] } else { self.pop_to_mark()? };
                    match self.top_value()? {
                        Value::List(list) => list.extend(items),
                        Value::Other => {}
                        other => return Err(unexpected("a list to append to", other)),
                    }
                }
                b's' | b'u' => {
                    let items = match opcode {
                        b's' => {
                            let value = self.pop()?;
                            vec![self.pop()?, value]
                        }
                        _ => self.pop_to_mark()?,
                    };
                    let items = pairs(items)?;
                    match self.top_value()? {
                        Value::Dict(dict) => dict.extend(items),
                        Value::Other => {}
                        other => return Err(unexpected("a dictionary to fill", other)),
                    }
                }

                b'q' => {
                    let [key] = self.array()?;
                    self.remember(key.into())?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.remember(key.into())?;
                }
                0x94 => self.remember(self.memo.len() as u64)?,
                b'p' => {
                    let key = self.key()?;
                    self.remember(key)?;
                }
                b'h' => {
                    let [key] = self.array()?;
                    self.recall(key.into())?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.recall(key.into())?;
                }
                b'g' => {
                    let key = self.key()?;
                    self.recall(key)?;
                }

                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    match (&self.values[module.0 as usize], &self.values[name.0 as usize]) {
                        (Value::Text(module), Value::Text(name)) => {
                            let (module, name) = (module.clone(), name.clone());
                            self.global(&module, &name)?;
                        }
                        (other, _) => return Err(unexpected("the name of a class", other)),
                    }
                }
                b'R' | 0x81 => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    self.call(function, arguments)?;
                }
                // State of an object: attributes, none of which a tensor's values depend on.
                b'b' => drop(self.pop()?),
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(id)?;
                    self.push(Value::Storage(storage.into()))?;
                }
                other => {
                    return Err(format!("Expected a checkpoint of tensors but its pickle has the opcode {other:#04x}"));
                }
            }
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let global = known(module, name).ok_or_else(|| {
            format!(
                "Expected a checkpoint of tensors, which are never run, but it names {}.{}: save a state_dict",
                shortened(module),
                shortened(name)
            )
        })?;
        self.push(Value::Global(global))
    }

    fn call(&mut self, function: Id, arguments: Id) -> Result<(), String> {
        let global = match &self.values[function.0 as usize] {
            Value::Global(global) => *global,
            other => return Err(unexpected("a function", other)),
        };
        let arguments = match &self.values[arguments.0 as usize] {
            Value::Tuple(arguments) if arguments.len() <= MOST_ITEMS => arguments.clone(),
            other => return Err(unexpected("arguments", other)),
        };
        match global {
            Global::RebuildTensor => {
                let view = self.view(&arguments)?;
                self.push(Value::Tensor(view.into()))
            }
            Global::First => match arguments.first() {
                Some(&first) => self.push_id(first),
                None => self.push(Value::Tuple(Vec::new())),
            },
            Global::Dict => {
                let dict = self.dict_of(&arguments)?;
                self.copied += dict.len();
                self.room(self.copied)?;
                self.push(Value::Dict(dict))
            }
            Global::Other => self.push(Value::Other),
            Global::Storage(_) => Err("Expected a storage to be named but the pickle makes one".into()),
        }
    }

    /// `OrderedDict(((key, value), ..))`; a class as the first argument, as of `defaultdict`, is left aside.
    fn dict_of(&self, arguments: &[Id]) -> Result<Vec<(Id, Id)>, String> {
        let items = match arguments.first().map(|id| &self.values[id.0 as usize]) {
            Some(Value::List(items) | Value::Tuple(items)) => items,
            Some(Value::Dict(entries)) => return Ok(entries.clone()),
            _ => return Ok(Vec::new()),
        };
        let pair = |id: &Id| match &self.values[id.0 as usize] {
            Value::List(pair) | Value::Tuple(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            other => Err(unexpected("a pair for a dictionary", other)),
        };
        items.iter().map(pair).collect()
    }

    fn view(&self, arguments: &[Id]) -> Result<View, String> {
        let value = |i: usize| arguments.get(i).map_or(&Value::None, |id| &self.values[id.0 as usize]);
        let Value::Storage(storage) = value(0) else { return Err(unexpected("a tensor's storage", value(0))) };
        let Value::Int(offset) = value(1) else { return Err(unexpected("a tensor's offset", value(1))) };
        let (shape, stride) = (self.sizes(value(2))?, self.sizes(value(3))?);
        if shape.len() != stride.len() || *offset < 0 {
            return Err("Expected an offset, and a stride for each axis of a tensor, but found others".into());
        }
        Ok(View { storage: Storage::clone(storage), offset: *offset as u64, shape, stride })
    }

    fn sizes(&self, value: &Value) -> Result<Vec<usize>, String> {
        let items = match value {
            Value::Tuple(items) | Value::List(items) if items.len() <= MOST_ITEMS => items,
            other => return Err(unexpected("sizes", other)),
        };
        let size = |id: &Id| match self.values[id.0 as usize] {
            Value::Int(size) => usize::try_from(size).map_err(|_| format!("Expected a size but found {size}")),
            ref other => Err(unexpected("a size", other)),
        };
        items.iter().map(size).collect()
    }

    /// `("storage", class, key, location, elements)`, in files before PyTorch 1.6 with a view `(key, offset, elements)`
    /// or `None` after it.
    fn storage(&self, id: Id) -> Result<Storage, String> {
        let Value::Tuple(items) = &self.values[id.0 as usize] else {
            return Err(unexpected("a storage", &self.values[id.0 as usize]));
        };
        let value = |i: usize| items.get(i).map_or(&Value::None, |id| &self.values[id.0 as usize]);
        match (value(0), value(1), value(2), value(4)) {
            (Value::Text(kind), Value::Global(Global::Storage(dtype)), Value::Text(key), Value::Int(count))
                if kind == "storage" && *count >= 0 && key.len() <= LONGEST_KEY =>
            {
                let offset = match value(5) {
                    Value::None => 0,
                    Value::Tuple(view) => match view.get(1).map(|id| &self.values[id.0 as usize]) {
                        Some(Value::Int(offset)) if *offset >= 0 => *offset as u64,
                        _ => return Err("Expected the view of a storage but found another".into()),
                    },
                    other => return Err(unexpected("the view of a storage", other)),
                };
                Ok(Storage { key: key.clone(), dtype: *dtype, count: *count as u64, offset })
            }
            (other, ..) => Err(unexpected("a storage of tensors", other)),
        }
    }

    /// An error where there are `count` already.
    fn room(&self, count: usize) -> Result<(), String> {
        if count >= MOST_VALUES { Err(format!("Expected at most {MOST_VALUES} values in the pickle")) } else { Ok(()) }
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        self.room(self.values.len())?;
        let id = Id(self.values.len() as u32);
        self.values.push(value);
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Result<(), String> {
        self.room(self.stack.len())?;
        self.stack.push(id);
        Ok(())
    }

    fn top(&self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..]
            .last()
            .copied()
            .ok_or_else(|| "Expected a value on the pickle's stack but it is empty".into())
    }

    fn top_value(&mut self) -> Result<&mut Value, String> {
        let top = self.top()?;
        Ok(&mut self.values[top.0 as usize])
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("Expected a mark on the pickle's stack but there is none")?;
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, key: u64) -> Result<(), String> {
        let top = self.top()?;
        self.room(self.memo.len())?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Result<(), String> {
        let id =
            *self.memo.get(&key).ok_or_else(|| format!("Expected a value under {key} in the pickle but found none"))?;
        self.push_id(id)
    }

    fn key(&mut self) -> Result<u64, String> {
        self.line()?.parse().map_err(|_| "Expected a number in the pickle".into())
    }

    fn take(&mut self, len: u64) -> Result<&[u8], String> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or("Expected more of the pickle: it is truncated")?;
        *self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N as u64)?.try_into().expect("as many bytes as asked for"))
    }

    /// A little-endian length of `N` bytes.
    fn length<const N: usize>(&mut self) -> Result<u64, String> {
        let mut length = [0; 8];
        length[..N].copy_from_slice(&self.array::<N>()?);
        Ok(u64::from_le_bytes(length))
    }

    fn text<const N: usize>(&mut self) -> Result<(), String> {
        let len = self.length::<N>()?;
        let text = String::from_utf8(self.take(len)?.to_vec()).map_err(|_| "Expected text in UTF-8 in the pickle")?;
        self.push(Value::Text(text))
    }

    fn byte_string<const N: usize>(&mut self) -> Result<(), String> {
        let len = self.length::<N>()?;
        let bytes = self.take(len)?.to_vec();
        self.push(Value::Bytes(bytes))
    }

    fn line(&mut self) -> Result<String, String> {
        let len = self
            .bytes
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or("Expected a line in the pickle: it is truncated")?;
        let line =
            String::from_utf8(self.take(len as u64)?.to_vec()).map_err(|_| "Expected a line in UTF-8 in the pickle")?;
        self.take(1)?;
        Ok(line.trim_end_matches('\r').to_owned())
    }
}

/// A little-endian integer in two's complement.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Bytes(bytes.to_vec());
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut value = [if negative { 0xff } else { 0 }; 8];
    value[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(value))
}

fn pairs(items: Vec<Id>) -> Result<Vec<(Id, Id)>, String> {
    let (pairs, rest) = items.as_chunks::<2>();
    match rest {
        [] => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => Err("Expected keys and values in the pickle but found one without the other".into()),
    }
}

fn unexpected(expected: &str, found: &Value) -> String {
    let found = match found {
        Value::None => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Int(_) | Value::Float => "a number",
        Value::Text(_) | Value::Bytes(_) => "text",
        Value::Tuple(_) | Value::List(_) => "a list",
        Value::Dict(_) => "a dictionary",
        Value::Storage(_) => "a storage",
        Value::Tensor(_) => "a tensor",
        Value::Global(_) => "a class",
        Value::Other => "an object",
    };
    format!("Expected {expected} in the pickle but found {found}")
}

/// A name from a file, for a sentence.
pub(super) fn shortened(name: &str) -> String {
    const LONGEST_NAME: usize = 120;
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}..", &name[..end]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Pickle, String> {
        Pickle::read(&mut &bytes[..])
    }

    #[track_caller]
    fn refused(bytes: &[u8], sentence: &str) {
        let error = read(bytes).unwrap_err();
        assert!(error.contains(sentence), "{error}");
    }

    #[test]
    fn what_would_run_is_named_and_refused() {
        refused(b"cos\nsystem\n(S'true'\ntR.", "os.system");
        refused(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.", "posix.system");
        refused(b"\x80\x02c__builtin__\neval\nU\x01a\x85R.", "__builtin__.eval");
        refused(b"(S'a'\nios\nsystem\n.", "opcode 0x69");
    }

    #[test]
    fn programs_that_break_off_or_take_what_is_not_there_are_refused() {
        for bytes in [&b""[..], b"\x80", b"X\xff\xff\xff\xffa", b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", b"cfoo", b"K"]
        {
            refused(bytes, "truncated");
        }
        refused(b".", "it is empty");
        refused(b"N(0.", "it is empty");
        refused(b"t.", "mark");
        refused(b"j\x01\x00\x00\x00.", "under 1");
        refused(b"}(Nu.", "one without the other");
        refused(b"Na.", "it is empty");
        refused(b"NNa.", "a list to append to");
        refused(b"\x80\x09.", "protocol 0 to 5");
        refused(b"NQ.", "a storage");
        refused(b"ctorch\nFloatStorage\n)R.", "makes one");
        refused(b"ctorch\nQuantizedStorage\n.", "QuantizedStorage");
        refused(b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "storage");
    }

    #[test]
    fn values_are_counted() {
        let mut bytes = vec![b'N'; MOST_VALUES + 1];
        bytes.push(b'.');
        refused(&bytes, "values in the pickle");
        let mut bytes = vec![b'N', b'q', 0];
        bytes.extend([b'h', 0].repeat(MOST_VALUES));
        refused(&bytes, "values in the pickle");
        // One list of pairs, made a dictionary again and again.
        let mut bytes = b"ccollections\nOrderedDict\nq\x01((NNtq\0".to_vec();
        bytes.extend([b'h', 0].repeat(1000));
        bytes.extend(b"l\x85q\x02");
        bytes.extend(b"h\x01h\x02R0".repeat(MOST_VALUES / 1000));
        refused(&bytes, "values in the pickle");
    }

    #[test]
    fn a_dictionary_that_holds_itself_is_one_value() {
        let pickle = read(b"}q\0U\x01ah\0s.").unwrap();
        let Value::Dict(entries) = &pickle[pickle.root] else { panic!() };
        assert_eq!(entries[0].1, pickle.root);
    }

    #[test]
    fn integers_of_every_width() {
        let pickle = read(b"(K\xffM\xff\xffJ\xff\xff\xff\xff\x8a\x01\x80\x8a\0I01\nI-7\nL12L\nt.").unwrap();
        let Value::Tuple(items) = &pickle[pickle.root] else { panic!() };
        let values: Vec<_> = items.iter().map(|&id| pickle[id].clone()).collect();
        let int = Value::Int;
        assert_eq!(values, [int(255), int(65535), int(-1), int(-128), int(0), Value::Bool(true), int(-7), int(12)]);
    }
}
