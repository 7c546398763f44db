//! Spans, recorders and guards that outlive what they belong to.

use otlp_collector::{Config, Refused};

use common::start;

/// Cells of a collector that has no pages.
fn only_cells(config: &mut Config, cells: usize) {
    config.open_span_bytes = 256;
    config.open_span_bytes_total = cells * 512;
}

#[test]
fn a_span_without_a_cell_does_not_end_in_the_next_collector() {
    let (_receiver, collector) = start(|config| only_cells(config, 3));
    let in_cells: Vec<_> = (0..3).map(|_| collector.start("in a cell")).collect();
    let outlives = collector.start("in the heap");
    assert_eq!(collector.stats().spans_without_memory, 1);
    drop((in_cells, collector));
    let (_receiver, next) = start(|config| only_cells(config, 3));
    assert_eq!(outlives.try_end(), Err(Refused::ShutDown));
    assert_eq!(next.shutdown().unwrap().accepted, 0);
}
