//! Free cells that one thread keeps.

use crate::buffer::cells::{Cell, CellPool};

/// Cells that a magazine can keep.
const CELLS_MAX: usize = 16;

/// Free cells that one thread keeps, so that it starts and ends spans without atomics. They are given
/// back when the magazine is dropped.
pub(crate) struct Magazine<T: 'static> {
    pool: &'static CellPool<T>,
    cells: [u32; CELLS_MAX],
    len: usize,
    /// Cells that are taken from the pool at once. It grows with use, so that many threads that start
    /// a few spans each keep few cells.
    run: usize,
}

impl<T> Magazine<T> {
    pub(crate) fn new(pool: &'static CellPool<T>) -> Self {
        Self {
            pool,
            cells: [0; CELLS_MAX],
            len: 0,
            run: 1,
        }
    }

    /// Takes the cell that was given back last; `None` if all are in use.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Option<Cell<T>> {
        if self.len == 0 {
            self.refill();
        }
        self.len = self.len.checked_sub(1)?;
        Some(self.pool.cell(*self.cells.get(self.len)?))
    }

    /// Keeps a cell that is no longer in use, or gives it back to where it comes from.
    #[inline(always)]
    pub(crate) fn give(&mut self, mut cell: Cell<T>) {
        if !cell.is_plain() {
            cell.shrink();
        }
        if !cell.is_plain() || !std::ptr::eq(cell.pool(), self.pool) {
            return drop_elsewhere(cell);
        }
        if self.len >= CELLS_MAX {
            self.spill();
        }
        self.cells[self.len] = cell.into_index();
        self.len += 1;
    }

    #[cold]
    #[inline(never)]
    fn refill(&mut self) {
        while self.len < self.run
            && let Some(cell) = self.pool.free_cells.pop()
        {
            self.cells[self.len] = cell;
            self.len += 1;
        }
        self.run = (2 * self.run).min(CELLS_MAX / 2);
    }

    /// Gives the older half to other threads.
    #[cold]
    #[inline(never)]
    fn spill(&mut self) {
        let half = CELLS_MAX / 2;
        self.pool.free_cells.push_all(&self.cells[..half]);
        self.cells.copy_within(half.., 0);
        self.len -= half;
    }
}

#[cold]
#[inline(never)]
fn drop_elsewhere<T>(cell: Cell<T>) {
    drop(cell);
}

impl<T> Drop for Magazine<T> {
    fn drop(&mut self) {
        self.pool.free_cells.push_all(&self.cells[..self.len]);
    }
}
