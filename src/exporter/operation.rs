//! Export operations: each begins with the first attempt to send a request and ends with the
//! outcome of its last part, however often it is sent again or split.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::stats::{Export, Exports, bounded_status, micros};

pub(crate) type OperationId = u64;

#[derive(Default)]
pub(crate) struct Operations {
    next: OperationId,
    running: BTreeMap<OperationId, Operation>,
    ended: Exports,
}

struct Operation {
    begun: Instant,
    /// Requests without outcome that it consists of.
    parts: usize,
    /// How the last part ended that failed.
    failure: Option<Export>,
}

impl Operations {
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

    /// One of the operation's requests was split into several.
    pub(crate) fn split(&mut self, id: OperationId, parts: usize) {
        if let Some(operation) = self.running.get_mut(&id) {
            operation.parts += parts - 1;
        }
    }

    /// One of the operation's requests has its outcome. So many of its spans were not delivered.
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
    fn an_operation_that_was_split_is_observed_once_and_has_failed_if_a_part_has() {
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
    fn statuses_without_number_take_bounded_memory() {
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
