//! The recorders of the calling thread: found by the cells of a span, made when they are needed.

use std::any::Any;
use std::cell::RefCell;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use crate::recorder::home::{SpanCell, SpanCells};
use crate::recorder::lease::Recorders;
use crate::recorder::thread_recorder::ThreadRecorder;
use crate::stats::refused::Refused;

thread_local! {
    /// One for each collector that the thread records to.
    static RECORDERS: RefCell<Vec<Rc<ThreadRecorder>>> = const { RefCell::new(Vec::new()) };
}

/// Returns this thread's recorder for spans in these cells, if it has one.
#[inline(always)]
fn find(cells: &'static SpanCells) -> Option<Rc<ThreadRecorder>> {
    let found = RECORDERS.try_with(|recorders| {
        let recorders = recorders.try_borrow().ok()?;
        let mut recorders = recorders.iter();
        let found = recorders.find(|recorder| std::ptr::eq(recorder.cells(), cells))?;
        Some(Rc::clone(found))
    });
    found.ok().flatten()
}

/// Returns this thread's recorder, or a temporary one where it can have none.
#[inline(always)]
pub(super) fn recorder_of(recorders: &Recorders) -> Rc<ThreadRecorder> {
    match find(recorders.cells().cells()) {
        Some(recorder) => recorder,
        None => create(recorders, Recorders::create_starting),
    }
}

#[cold]
#[inline(never)]
fn create(
    recorders: &Recorders,
    create_temporary: fn(&Recorders) -> ThreadRecorder,
) -> Rc<ThreadRecorder> {
    recorder(recorders).unwrap_or_else(|| Rc::new(create_temporary(recorders)))
}

/// Returns this thread's recorder; `None` if there are too many, or the thread is about to end.
pub(super) fn recorder(recorders: &Recorders) -> Option<Rc<ThreadRecorder>> {
    let cells = recorders.cells().cells();
    find(cells).or_else(|| {
        // A recorder that was not kept would take a place for nothing.
        RECORDERS.try_with(|_| ()).ok()?;
        let created = Rc::new(recorders.create()?);
        drop_orphans();
        // A generator of the user's may have made one meanwhile.
        find(cells).or_else(|| {
            keep(&created);
            Some(created)
        })
    })
}

/// Returns a recorder for spans in these cells, if their collector still exists.
#[inline(always)]
pub(super) fn recorder_of_cells(cells: &'static SpanCells) -> Result<Rc<ThreadRecorder>, Refused> {
    match find(cells) {
        Some(recorder) => Ok(recorder),
        None => create_for_cells(cells),
    }
}

#[cold]
#[inline(never)]
fn create_for_cells(cells: &'static SpanCells) -> Result<Rc<ThreadRecorder>, Refused> {
    let recorders = running(cells)?;
    Ok(recorder_of(&recorders))
}

/// Ends a sampled span with this thread's recorder, or another one.
#[inline(never)]
pub(super) fn end(cell: SpanCell, end_time: u64) -> Result<(), Refused> {
    let cells = cell.pool();
    match lend(cells, cell, |recorder, cell| recorder.end(cell, end_time)) {
        Ok(result) => result,
        Err(cell) => end_elsewhere(cell, end_time),
    }
}

/// Ends a span for which this thread has no recorder.
#[cold]
#[inline(never)]
fn end_elsewhere(mut cell: SpanCell, end_time: u64) -> Result<(), Refused> {
    match running(cell.pool()) {
        Ok(recorders) => {
            let recorder = create(&recorders, Recorders::create_ending);
            recorder.end(cell, end_time)
        }
        Err(why) => {
            cell.leave_trace();
            Err(why)
        }
    }
}

/// Gives a cell back to this thread's recorder, or to the pool.
#[inline(never)]
pub(super) fn give_back(cell: SpanCell) {
    let cells = cell.pool();
    if let Err(cell) = lend(cells, cell, |recorder, cell| recorder.give_back(cell)) {
        drop(cell);
    }
}

/// Passes a cell to `take` with this thread's recorder; returns it if there is none. `take` runs no code
/// of the user's, so that the list stays borrowed.
#[inline(always)]
fn lend<R>(
    cells: &'static SpanCells,
    cell: SpanCell,
    take: impl FnOnce(&ThreadRecorder, SpanCell) -> R,
) -> Result<R, SpanCell> {
    let mut cell = Some(cell);
    let taken = RECORDERS.try_with(|recorders| {
        let recorders = recorders.try_borrow().ok()?;
        let mut recorders = recorders.iter();
        let recorder = recorders.find(|recorder| std::ptr::eq(recorder.cells(), cells))?;
        Some(take(recorder, cell.take()?))
    });
    match taken {
        Ok(Some(taken)) => {
            // It was taken.
            mem::forget(cell);
            Ok(taken)
        }
        _ => Err(cell.expect("the cell was not taken")),
    }
}

/// Returns the recorders of the collector of these cells; fails if it is gone.
fn running(cells: &'static SpanCells) -> Result<Arc<Recorders>, Refused> {
    let host = cells.owner.host()?;
    let host: Arc<dyn Any + Send + Sync> = host;
    host.downcast::<Recorders>().map_err(|_| Refused::ShutDown)
}

fn keep(recorder: &Rc<ThreadRecorder>) {
    // Fails only while the thread's storage is being destroyed.
    let _ = RECORDERS.try_with(|recorders| {
        if let Ok(mut recorders) = recorders.try_borrow_mut() {
            recorders.push(Rc::clone(recorder));
        }
    });
}

/// Drops this thread's recorders of collectors that are gone, and their memory.
pub(crate) fn drop_orphans() {
    let orphans = RECORDERS.try_with(|recorders| {
        let Ok(mut recorders) = recorders.try_borrow_mut() else {
            return Vec::new();
        };
        let orphans = recorders.extract_if(.., |recorder| recorder.is_orphaned());
        orphans.collect()
    });
    // Not while the list is borrowed: a generator of the user's may record when it is dropped.
    drop(orphans);
}
