//! Reads numbers and slices off the front of bytes from the network; never panics.

/// Bytes ended too early, or can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = tail;
        Ok(*head)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// An unsigned number of `width` bytes, at most 8, least significant first.
    #[inline]
    pub(super) fn little(&mut self, width: u8) -> Result<u64, Malformed> {
        Ok(match width {
            1 => u64::from(self.u8()?),
            2 => u64::from(u16::from_le_bytes(self.array()?)),
            4 => u64::from(u32::from_le_bytes(self.array()?)),
            8 => u64::from_le_bytes(self.array()?),
            _ => {
                let bytes = self.take(usize::from(width))?;
                bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
            }
        })
    }

    /// The same as a signed number.
    #[inline]
    pub(super) fn little_signed(&mut self, width: u8) -> Result<i64, Malformed> {
        let unused = 64 - 8 * u32::from(width.min(8)).max(1);
        Ok((self.little(width)? << unused).cast_signed() >> unused)
    }

    /// An unsigned number of `width` bytes, at most 8, most significant first.
    #[inline]
    pub(super) fn big(&mut self, width: u8) -> Result<u64, Malformed> {
        let bytes = self.take(usize::from(width))?;
        Ok(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// A length of `width` bytes, then as many bytes.
    #[inline]
    pub(super) fn counted(&mut self, width: u8) -> Result<&'a [u8], Malformed> {
        let length = self.little(width)?;
        self.take(usize::try_from(length).map_err(|_| Malformed)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_of_every_width() {
        let mut bytes = Cursor(&[0xff, 0x01, 0x02, 0xfe, 0xff, 0xff, 0x01, 0x02, 0x03]);
        assert_eq!(bytes.little_signed(1), Ok(-1));
        assert_eq!(bytes.little(2), Ok(0x0201));
        assert_eq!(bytes.little_signed(3), Ok(-2));
        assert_eq!(bytes.big(3), Ok(0x010203));
        assert_eq!(bytes.u8(), Err(Malformed));
    }

    #[test]
    fn counts_before_it_takes() {
        let mut bytes = Cursor(&[2, 7, 8, 200, 1]);
        assert_eq!(bytes.counted(1), Ok(&[7, 8][..]));
        assert_eq!(bytes.counted(1), Err(Malformed));
        assert_eq!(Cursor(&[0xff; 8]).counted(8), Err(Malformed));
    }
}
