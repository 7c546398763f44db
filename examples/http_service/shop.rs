//! The service's logic: looks up an order and renders it as a page.

use std::collections::HashMap;
use std::fmt;
use std::fmt::Write;

use otlp_collector::recorder::ScopedRecorder;
use otlp_collector::span::{InstrumentationScope, StatusRef};
use otlp_collector::{Key, Name, OpenSpan, Recorder, key, name};

use crate::http::{Request, Response};

const ORDERS: u32 = 10_000;
const LINES: u32 = 8;

const SELECT: Name<'static> = name!("SELECT order_line");
const RENDER: Name<'static> = name!("render order");
const DB_SYSTEM: Key<'static> = key!("db.system.name");
const DB_ROWS: Key<'static> = key!("db.response.returned_rows");
const ORDER_ID: Key<'static> = key!("shop.order.id");
const BYTES: Key<'static> = key!("shop.page.bytes");

/// Returns the scope of the look-ups, which belong to another component than the pages.
pub fn storage_scope() -> InstrumentationScope {
    InstrumentationScope {
        version: "1.0.0".to_string(),
        ..InstrumentationScope::new("shop-storage")
    }
}

/// The recorder, scope and parent span for the spans of a request.
#[derive(Clone, Copy)]
pub struct Trace<'t> {
    pub recorder: &'t Recorder,
    pub storage: ScopedRecorder<'t>,
    pub request: &'t OpenSpan,
}

/// Orders in memory.
pub struct Shop {
    orders: HashMap<u32, Vec<Line>>,
}

struct Line {
    item: u32,
    cents: u64,
}

#[derive(Debug)]
struct NoSuchOrder(u32);

impl fmt::Display for NoSuchOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "there is no order {}; the last is {}",
            self.0,
            ORDERS - 1
        )
    }
}

impl std::error::Error for NoSuchOrder {}

impl Shop {
    pub fn new() -> Self {
        let line = |order, number| Line {
            item: order * 31 + number,
            cents: u64::from(order % 97 * 100 + number),
        };
        let lines = |order| (0..LINES).map(|number| line(order, number)).collect();
        Self {
            orders: (0..ORDERS).map(|order| (order, lines(order))).collect(),
        }
    }

    pub fn answer(&self, request: &Request<'_>, trace: Option<Trace<'_>>) -> Response {
        if !matches!(request.method, "GET" | "HEAD") {
            return Response::text(405, "only GET and HEAD\n");
        }
        let path = request.path.split('?').next().unwrap_or("");
        match path {
            "/" => Response::text(200, "try /orders/7, /orders/99999, /fail\n"),
            "/fail" => Response::text(500, "failed as requested\n"),
            _ => match path.strip_prefix("/orders/").and_then(|id| id.parse().ok()) {
                Some(id) => self.order(id, trace),
                None => Response::text(404, "not found\n"),
            },
        }
    }

    fn order(&self, id: u32, trace: Option<Trace<'_>>) -> Response {
        match self.look_up(id, trace) {
            Ok(lines) => Response::json(200, render(id, lines, trace)),
            Err(error) => Response::text(404, &format!("{error}\n")),
        }
    }

    fn look_up(&self, id: u32, trace: Option<Trace<'_>>) -> Result<&[Line], NoSuchOrder> {
        let mut span = trace.map(|trace| trace.storage.start_child(trace.request, SELECT));
        let found = self.orders.get(&id).ok_or(NoSuchOrder(id));
        if let Some(span) = &mut span {
            span.set_attribute(DB_SYSTEM, "in-memory")
                .set_attribute(ORDER_ID, id);
            match &found {
                Ok(lines) => span.set_attribute(DB_ROWS, lines.len()),
                Err(error) => span
                    .record_error(error)
                    .set_status(StatusRef::Error("not found")),
            };
        }
        found.map(Vec::as_slice)
    }
}

fn render(id: u32, lines: &[Line], trace: Option<Trace<'_>>) -> String {
    let mut span = trace.map(|trace| trace.recorder.start_child(trace.request, RENDER));
    let mut page = format!("{{\"id\":{id},\"lines\":[");
    for (number, line) in lines.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(
            page,
            "{comma}{{\"item\":{},\"cents\":{}}}",
            line.item, line.cents
        );
    }
    let sum: u64 = lines.iter().map(|line| line.cents).sum();
    let _ = writeln!(page, "],\"cents\":{sum}}}");
    if let Some(span) = &mut span {
        span.set_attribute(BYTES, page.len());
    }
    page
}
