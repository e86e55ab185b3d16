//! Reads decisions from the bytes of an input. An input that has ended reads as
//! zeros, so that every prefix of an input is one.

/// What is left of an input.
pub struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The next byte; `None` at the end.
    pub fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    pub fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    pub fn f64(&mut self) -> f64 {
        f64::from_bits(u64::from(self.u32()) << 32 | u64::from(self.u32()))
    }

    /// Up to 255 bytes, as many as the next byte says.
    pub fn some(&mut self) -> &'a [u8] {
        let size = usize::from(self.byte()).min(self.bytes.len());
        let (some, rest) = self.bytes.split_at(size);
        self.bytes = rest;
        some
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    pub fn rest(self) -> &'a [u8] {
        self.bytes
    }
}
