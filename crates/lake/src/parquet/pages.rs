//! Pages of a row group that is open, until it is written out.
//!
//! Owns: the blocks that pages lie in, one behind the other.
//! Does not: encode, compress or order pages; the writer does, and asks for each of them once.
//! Holds: small pages, and headers, take what they have bytes and little more, and a large page exactly that. By itself every page would be an
//! allocation that began as large as it was before it was compressed, with another of a kilobyte for its header. A block is given back with the
//! last page in it.
//! Fails: for a page that was never stored or was taken before, which is a bug of the writer.

use ::parquet::arrow::arrow_writer::{PageKey, PageStore, PageStoreArgs, PageStoreFactory};
use ::parquet::errors::{ParquetError, Result};
use bytes::Bytes;

/// Makes the store of every column chunk.
#[derive(Debug)]
pub(super) struct InBlocks;

impl PageStoreFactory for InBlocks {
    fn create(&self, _args: &PageStoreArgs<'_>) -> Result<Box<dyn PageStore>> {
        Ok(Box::new(Pages::default()))
    }
}

/// The pages of one column chunk.
#[derive(Default)]
struct Pages {
    blocks: Vec<Block>,
    /// The bytes of the block that small pages go to, and which it is.
    open: Vec<u8>,
    open_at: usize,
    /// By key; none once it was taken.
    places: Vec<Option<Place>>,
}

#[derive(Default)]
struct Block {
    bytes: Bytes,
    memory: usize,
    /// How many of its pages nobody took yet.
    pages: usize,
}

struct Place {
    block: usize,
    start: usize,
    length: usize,
}

impl Pages {
    /// Where a page goes that may share its block.
    fn put_small(&mut self, page: &[u8]) -> Place {
        if self.open.capacity() == 0 || self.open.capacity() - self.open.len() < page.len() {
            self.close();
            // Twice the one before: a column that has little takes little.
            let size = BLOCK_BYTES_MIN << self.blocks.len().min(BLOCK_DOUBLINGS);
            self.open = Vec::with_capacity(size.max(page.len()));
            self.open_at = self.blocks.len();
            self.blocks.push(Block { memory: self.open.capacity(), ..Block::default() });
        }
        let place = Place { block: self.open_at, start: self.open.len(), length: page.len() };
        self.open.extend_from_slice(page);
        place
    }

    fn close(&mut self) {
        if let Some(block) = self.blocks.get_mut(self.open_at)
            && self.open.capacity() > 0
        {
            block.bytes = std::mem::take(&mut self.open).into();
        }
    }
}

impl PageStore for Pages {
    fn put(&mut self, page: Bytes) -> Result<PageKey> {
        let place = if page.len() > SMALL_BYTES_MAX {
            let bytes = Bytes::copy_from_slice(&page);
            self.blocks.push(Block { memory: bytes.len(), bytes, pages: 0 });
            Place { block: self.blocks.len() - 1, start: 0, length: page.len() }
        } else {
            self.put_small(&page)
        };
        if let Some(block) = self.blocks.get_mut(place.block) {
            block.pages += 1;
        }
        let key = PageKey::new(u64::try_from(self.places.len()).unwrap_or(u64::MAX));
        self.places.push(Some(place));
        Ok(key)
    }

    fn take(&mut self, key: PageKey) -> Result<Bytes> {
        self.close();
        let place = usize::try_from(key.get()).ok().and_then(|key| self.places.get_mut(key)?.take());
        let Some(Place { block, start, length }) = place else { return Err(unknown(key)) };
        let Some(block) = self.blocks.get_mut(block) else { return Err(unknown(key)) };
        let page = block.bytes.slice(start..start + length);
        block.pages -= 1;
        if block.pages == 0 {
            *block = Block::default();
        }
        Ok(page)
    }

    fn memory_size(&self) -> usize {
        self.blocks.iter().map(|block| block.memory).sum()
    }
}

#[cold]
fn unknown(key: PageKey) -> ParquetError {
    ParquetError::General(format!("page {} is not stored, or was taken before", key.get()))
}

/// The first block of a column.
const BLOCK_BYTES_MIN: usize = 8 << 10;
/// Up to 256 KB.
const BLOCK_DOUBLINGS: usize = 5;
/// What is larger would leave too much of a block empty.
const SMALL_BYTES_MAX: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_in_any_order_and_take_little_more_than_their_bytes() {
        let mut pages = Pages::default();
        let stored: Vec<Bytes> = (0..300_usize)
            .map(|n| vec![n.to_le_bytes()[0]; (n * 7_919) % 300_000 / (1 + n % 9)].into())
            .collect();
        let bytes: usize = stored.iter().map(Bytes::len).sum();
        let keys: Vec<PageKey> = stored.iter().map(|page| pages.put(page.clone()).unwrap()).collect();
        assert!(pages.memory_size() >= bytes && pages.memory_size() < bytes + bytes / 8);
        // A dictionary is stored last and asked for first.
        let mut order: Vec<usize> = (0..300).collect();
        order.rotate_right(1);
        for n in order {
            assert_eq!(pages.take(keys[n]).unwrap(), stored[n]);
        }
        assert_eq!(pages.memory_size(), 0);
    }

    #[test]
    fn a_large_page_has_a_block_of_its_size_and_a_small_chunk_a_small_one() {
        let mut pages = Pages::default();
        let small = pages.put(Bytes::from_static(b"small")).unwrap();
        assert_eq!(pages.memory_size(), BLOCK_BYTES_MIN);
        let large = pages.put(vec![7; 1 << 20].into()).unwrap();
        assert_eq!(pages.memory_size(), BLOCK_BYTES_MIN + (1 << 20));
        assert_eq!(pages.take(large).unwrap().len(), 1 << 20);
        assert_eq!(pages.memory_size(), BLOCK_BYTES_MIN);
        assert_eq!(pages.take(small).unwrap(), b"small"[..]);
        assert_eq!(pages.memory_size(), 0);
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let mut pages = Pages::default();
        assert!(pages.take(PageKey::new(0)).is_err());
        let key = pages.put(Bytes::from_static(b"page")).unwrap();
        pages.take(key).unwrap();
        let other = pages.put(Bytes::new()).unwrap();
        let error = pages.take(key).unwrap_err().to_string();
        assert_eq!(pages.take(other).unwrap(), Bytes::new());
        assert!(error.contains("page 0 is not stored"), "{error}");
    }
}
