//! Export operations. Each begins with the first attempt to send a request, and ends with the outcome of
//! its last part, after any number of attempts and splits.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::stats::{Export, Exports, bounded_status, micros};

/// Number of an export operation within its destination.
pub(crate) type OperationId = u64;

/// The export operations of one destination: those in progress, and counts of those that have ended.
#[derive(Default)]
pub(crate) struct Operations {
    next: OperationId,
    running: BTreeMap<OperationId, Operation>,
    ended: Exports,
}

/// An export operation in progress.
struct Operation {
    begun: Instant,
    /// The number of its requests without an outcome.
    parts: usize,
    /// The end of the last part that failed.
    failure: Option<Export>,
}

impl Operations {
    /// Begins an operation of one request.
    pub(crate) fn begin(&mut self, now: Instant) -> OperationId {
        let id = self.next;
        self.next += 1;
        let operation = Operation {
            begun: now,
            parts: 1,
            failure: None,
        };
        self.running.insert(id, operation);
        id
    }

    /// Notes that one of the operation's requests was split.
    pub(crate) fn split(&mut self, id: OperationId, parts: usize) {
        if let Some(operation) = self.running.get_mut(&id) {
            operation.parts += parts - 1;
        }
    }

    /// Ends one of the operation's requests. `failed_spans` of its spans were not delivered.
    pub(crate) fn end_part(
        &mut self,
        id: OperationId,
        export: Export,
        failed_spans: u64,
        now: Instant,
    ) {
        let export = self.bounded(export);
        if failed_spans > 0 {
            self.ended.entry(export).or_default().failed_spans += failed_spans;
        }
        let Some(operation) = self.running.get_mut(&id) else {
            return;
        };
        if export.has_failed() {
            operation.failure = Some(export);
        }
        operation.parts -= 1;
        if operation.parts == 0 {
            let took = micros(now.saturating_duration_since(operation.begun));
            let export = operation.failure.unwrap_or(export);
            self.running.remove(&id);
            self.ended.entry(export).or_default().durations.add(took);
        }
    }

    /// Returns the operations that have ended.
    pub(crate) fn ended(&self) -> &Exports {
        &self.ended
    }

    fn bounded(&self, export: Export) -> Export {
        let is_known = self.ended.contains_key(&export);
        let bounded = |status| bounded_status(status, is_known, self.ended.len());
        Export {
            status: export.status.map(bounded),
            ..export
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    const fn ended_with(status: u16, error: Option<&'static str>) -> Export {
        Export {
            endpoint: 0,
            status: Some(status),
            error,
        }
    }

    #[test]
    fn a_split_operation_is_counted_once_and_fails_with_any_of_its_parts() {
        let start = Instant::now();
        let mut operations = Operations::default();
        let id = operations.begin(start);
        operations.split(id, 3);
        operations.end_part(id, ended_with(200, None), 0, start);
        operations.split(id, 2);
        operations.end_part(id, ended_with(400, None), 7, start);
        assert_eq!(operations.ended()[&ended_with(400, None)].failed_spans, 7);
        operations.end_part(id, ended_with(200, None), 0, start);
        let observed = |operations: &Operations| -> u64 {
            let ended = operations.ended().values();
            ended.map(|totals| totals.durations.durations.count).sum()
        };
        assert_eq!(observed(&operations), 0);
        operations.end_part(id, ended_with(200, None), 0, start + Duration::from_secs(2));
        assert_eq!(observed(&operations), 1);
        let failed = &operations.ended()[&ended_with(400, None)];
        assert_eq!(failed.durations.durations.sum_us, 2_000_000);
        assert!(operations.running.is_empty());
    }

    #[test]
    fn any_number_of_statuses_takes_bounded_memory() {
        let now = Instant::now();
        let mut operations = Operations::default();
        for status in 400..600 {
            let id = operations.begin(now);
            operations.end_part(id, ended_with(status, None), 1, now);
        }
        assert_eq!(operations.ended().len(), 33);
        let folded = &operations.ended()[&ended_with(500, None)];
        assert_eq!(folded.failed_spans, 100);
    }
}
