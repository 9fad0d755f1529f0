//! Buffers whose first float begins a cache line, so that no aligned vector crosses two lines. Large ones lie on huge pages where
//! the system has them to give: a training step walks through more memory than the TLB has small pages for.

use std::alloc::{Layout, alloc_zeroed};
use std::ops::{Deref, DerefMut, Range};
use std::slice;
use std::sync::Arc;

/// Floats of a cache line.
const LINE: usize = 64 / size_of::<f32>();

/// A buffer of floats, all 0 at first, aligned to 64 bytes.
#[derive(Default)]
pub struct Buffer {
    /// With room to begin at a line.
    memory: Vec<f32>,
    first: usize,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` zeros.
    pub fn zeros(len: usize) -> Buffer {
        let memory = zeros(len.saturating_add(LINE - 1));
        let first = memory.as_ptr().align_offset(64);
        Buffer { memory, first, len }
    }

    /// Leaves the first `len` floats, where there are more, and gives back the memory behind them.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            *self = Buffer::from(&self[..len]);
        }
    }
}

impl From<&[f32]> for Buffer {
    fn from(floats: &[f32]) -> Buffer {
        let mut buffer = Buffer::zeros(floats.len());
        buffer.copy_from_slice(floats);
        buffer
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        Buffer::from(&self[..])
    }
}

/// A part of a buffer, beside which others can have owners of their own: one thread sends what another has completed, while that goes
/// on before it. Nothing is copied.
pub struct BufferPart {
    memory: Arc<Memory>,
    range: Range<usize>,
}

/// A buffer that is reached through its parts alone, and where it begins.
struct Memory {
    start: *mut f32,
    _buffer: Buffer,
}

// SAFETY: the floats belong to the allocation of the buffer, which is Send; nothing reads or writes them by a reference to this.
unsafe impl Send for Memory {}
// SAFETY: the same.
unsafe impl Sync for Memory {}

impl BufferPart {
    /// Leaves the first `at` floats and returns the others.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> BufferPart {
        assert!(at <= self.len(), "a part of {} floats cannot be cut at {at}", self.len());
        let middle = self.range.start + at;
        let after = BufferPart { memory: Arc::clone(&self.memory), range: middle..self.range.end };
        self.range.end = middle;
        after
    }

    /// Takes back the part that follows.
    ///
    /// # Panics
    /// When it is another.
    pub fn join(&mut self, after: BufferPart) {
        let follows = Arc::ptr_eq(&self.memory, &after.memory) && self.range.end == after.range.start;
        assert!(follows, "only the part that follows can be taken back");
        self.range.end = after.range.end;
    }
}

impl From<Buffer> for BufferPart {
    fn from(mut buffer: Buffer) -> BufferPart {
        let range = 0..buffer.len();
        let start = buffer.as_mut_ptr();
        BufferPart { memory: Arc::new(Memory { start, _buffer: buffer }), range }
    }
}

impl Default for BufferPart {
    fn default() -> BufferPart {
        Buffer::default().into()
    }
}

impl Deref for BufferPart {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the range lies within the buffer, which lives as long as its parts; no other part has a float of it.
        unsafe { slice::from_raw_parts(self.memory.start.add(self.range.start), self.range.len()) }
    }
}

impl DerefMut for BufferPart {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for reading; and this part is borrowed alone.
        unsafe { slice::from_raw_parts_mut(self.memory.start.add(self.range.start), self.range.len()) }
    }
}

impl std::fmt::Debug for BufferPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Floats {:?} of a buffer", self.range)
    }
}

/// So many floats, all 0; on huge pages where they are many. Where the memory comes from the system, its pages are not there yet:
/// whoever writes them first brings them, with as many threads as it has.
pub fn zeros(len: usize) -> Vec<f32> {
    // This asks for zeroed memory, and touches none of it.
    let floats = vec![0.0; len];
    prefer_huge_pages(&floats);
    floats
}

/// So many bytes, all 0; the same otherwise.
pub fn zero_bytes(len: usize) -> Vec<u8> {
    let bytes = vec![0; len];
    prefer_huge_pages(&bytes);
    bytes
}

/// As [`zeros`], or nothing where there is no such memory.
pub fn try_zeros(len: usize) -> Option<Vec<f32>> {
    let layout = Layout::array::<f32>(len).ok().filter(|layout| layout.size() > 0);
    let Some(layout) = layout else { return (len == 0).then(Vec::new) };
    // SAFETY: the layout is not empty.
    let start = unsafe { alloc_zeroed(layout) };
    if start.is_null() {
        return None;
    }
    // SAFETY: the global allocator has given this array, and zero bytes are floats.
    let floats = unsafe { Vec::from_raw_parts(start.cast(), len, len) };
    prefer_huge_pages(&floats);
    Some(floats)
}

/// Bytes from which huge pages are asked for: below, none would fit, or one that is mostly empty.
#[cfg(target_os = "linux")]
const LARGE: usize = 4 << 20;

/// Asks Linux for pages of 2 MiB, which it gives only where it is asked (`madvise` in
/// `/sys/kernel/mm/transparent_hugepage/enabled`); where it cannot, pages stay as they are.
#[cfg(target_os = "linux")]
fn prefer_huge_pages<T>(memory: &[T]) {
    use std::ffi::{c_int, c_void};
    unsafe extern "C" {
        fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    /// Linux's number of the advice.
    const MADV_HUGEPAGE: c_int = 14;
    /// A multiple of every page size, to which the range is narrowed.
    const PAGE: usize = 64 << 10;
    let (start, bytes) = (memory.as_ptr() as usize, size_of_val(memory));
    if bytes < LARGE {
        return;
    }
    let (first, end) = (start.next_multiple_of(PAGE), (start + bytes) / PAGE * PAGE);
    // SAFETY: the range lies within an allocation of our own, and the advice changes nothing that a program can see but time. A
    // system that does not know it says so, and nothing has to be done then.
    unsafe { madvise(first as *mut c_void, end - first, MADV_HUGEPAGE) };
}

/// Other systems are not asked.
#[cfg(not(target_os = "linux"))]
fn prefer_huge_pages<T>(_: &[T]) {}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[self.first..self.first + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.first..self.first + self.len]
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer of {} floats", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_a_line_and_holds_its_length() {
        for len in [0, 1, 16, 17, 1000, 3 << 20] {
            let mut buffer = Buffer::zeros(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            buffer.fill(2.0);
            assert!(buffer.iter().all(|&x| x == 2.0));
            buffer.truncate(5);
            assert_eq!((buffer.len(), buffer.as_ptr() as usize % 64), (len.min(5), 0));
            assert!(buffer.iter().all(|&x| x == 2.0));
        }
    }

    #[test]
    fn parts_are_changed_by_threads_of_their_own_and_joined_again() {
        let mut whole = BufferPart::from(Buffer::zeros(1000));
        let start = whole.as_ptr();
        for turn in 1..4 {
            let mut threads = Vec::new();
            for at in [700, 200, 200, 0] {
                let mut part = whole.split_off(at);
                assert_eq!((whole.len(), part.as_ptr()), (at, start.wrapping_add(at)));
                threads.push(std::thread::spawn(move || {
                    part.iter_mut().zip(at..).for_each(|(float, index)| *float += index as f32);
                    part
                }));
            }
            threads.into_iter().rev().for_each(|thread| whole.join(thread.join().unwrap()));
            assert_eq!((whole.len(), whole.as_ptr()), (1000, start));
            assert!(whole.iter().enumerate().all(|(index, &float)| float == (turn * index) as f32));
        }
        assert!(BufferPart::default().is_empty());
    }

    #[test]
    #[should_panic(expected = "the part that follows")]
    fn a_part_of_another_buffer_is_not_joined() {
        let mut whole = BufferPart::from(Buffer::zeros(8));
        let _ = whole.split_off(4);
        whole.join(BufferPart::from(Buffer::zeros(8)).split_off(4));
    }

    #[test]
    #[should_panic(expected = "the part that follows")]
    fn parts_are_joined_in_their_order() {
        let mut whole = BufferPart::from(Buffer::zeros(8));
        let last = whole.split_off(6);
        let _ = whole.split_off(4);
        whole.join(last);
    }
}
