//! Spans, recorders and guards that outlive what they belong to.

use otlp_collector::span::{KeepIf, TailSampling};
use otlp_collector::{Config, Refused};

use common::start;

/// Cells of a collector that has no pages.
fn only_cells(config: &mut Config, cells: usize) {
    config.open_span_bytes = 256;
    config.open_span_bytes_total = cells * 512;
}

/// Holds traces and drops those of which no span failed.
fn only_failed(config: &mut Config) {
    config.tail_sampling = Some(TailSampling::new(KeepIf {
        failed: true,
        ..KeepIf::default()
    }));
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

#[test]
fn spans_that_outlive_their_collector_take_no_held_trace_from_the_next() {
    let only_one_trace = |config: &mut Config| {
        only_cells(config, 5);
        config.tail_sampling = Some(TailSampling {
            held_traces_max: 1,
            ..TailSampling::new(KeepIf::default())
        });
    };
    for _ in 0..3 {
        let (_receiver, collector) = start(only_one_trace);
        let root = collector.start("root");
        collector.start_child(&root, "child").end();
        assert_eq!(collector.ledger().held, 1);
        collector.start("not held").end();
        root.end();
        let root = collector.start("outlives its collector");
        let ledger = collector.ledger();
        assert_eq!((ledger.accepted, ledger.sampled_out.at_end), (1, 2));
        drop(collector);
        assert_eq!(root.try_end(), Err(Refused::ShutDown));
    }
}

#[test]
fn a_parent_of_another_collector_keeps_its_held_spans() {
    let (receiver, holding) = start(only_failed);
    let (others, full) = start(|config| only_cells(config, 1));
    let root = holding.start("root");
    holding.start_child(&root, "held").end();
    let only = full.start("only");
    full.start_child(&root, "without memory").end();
    assert_eq!(holding.ledger().held, 1);
    drop((only, root));
    assert_eq!(full.shutdown().unwrap().delivered(), 2);
    assert_eq!(holding.shutdown().unwrap().sampled_out.at_end, 2);
    assert_eq!((receiver.spans().len(), others.spans().len()), (0, 2));
}
