//! Protocol buffers, written field by field.
//!
//! By hand: the library for it would have burn compiled again, for a handful of messages.

/// A message under way.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// A whole number, or an enum's.
    pub fn integer(self, field: u32, value: u64) -> Self {
        self.key(field, 0).varint(value)
    }

    /// 64 bits.
    pub fn double(mut self, field: u32, value: f64) -> Self {
        self = self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Bytes or text.
    pub fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        self = self.head(field, value.as_ref().len() as u64);
        self.0.extend(value.as_ref());
        self
    }

    /// A message inside this one.
    pub fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// Key and length of a field whose `len` bytes are written elsewhere, after this message's own.
    pub fn head(self, field: u32, len: u64) -> Self {
        self.key(field, 2).varint(len)
    }

    /// The fields of another message after those of this one.
    pub fn then(mut self, next: &Self) -> Self {
        self.0.extend(&next.0);
        self
    }

    /// 32 bits.
    pub fn float(mut self, field: u32, value: f32) -> Self {
        self = self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// What there is of it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn key(self, field: u32, wire: u32) -> Self {
        self.varint(u64::from(field << 3 | wire))
    }

    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_field_is_as_in_the_encoding_guide() {
        // https://protobuf.dev/programming-guides/encoding: 150 in field 1, "testing" in field 2, the first in field 3.
        let integer = Message::default().integer(1, 150);
        assert_eq!(integer.as_bytes(), [0x08, 0x96, 0x01]);
        let text = Message::default().bytes(2, "testing");
        assert_eq!(text.as_bytes(), [&[0x12, 7][..], b"testing"].concat());
        assert_eq!(Message::default().message(3, &integer).as_bytes(), [0x1a, 3, 0x08, 0x96, 0x01]);
        assert_eq!(Message::default().double(1, 1.5).as_bytes(), [0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f]);
        assert_eq!(Message::default().float(2, 2.0).as_bytes(), [0x15, 0, 0, 0, 0x40]);
    }

    #[test]
    fn numbers_and_keys_take_the_bytes_that_they_need() {
        assert_eq!(Message::default().integer(2, 300).as_bytes(), [0x10, 0xac, 0x02]);
        let most = [8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert_eq!(Message::default().integer(1, u64::MAX).as_bytes(), most);
        assert_eq!(Message::default().integer(15, 0).as_bytes(), [0x78, 0]);
        assert_eq!(Message::default().integer(16, 1).as_bytes(), [0x80, 0x01, 1]);
        assert_eq!(Message::default().integer(20, 7).as_bytes(), [0xa0, 0x01, 7]);
    }

    #[test]
    fn a_head_and_its_bytes_are_a_field() {
        let data = [7; 200];
        let whole = Message::default().integer(1, 5).bytes(9, data);
        let head = Message::default().integer(1, 5).head(9, 200);
        assert_eq!([head.as_bytes(), &data].concat(), whole.as_bytes());
        let parts = Message::default().integer(1, 5).then(&Message::default().bytes(9, data));
        assert_eq!(parts, whole);
    }
}
