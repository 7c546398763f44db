//! The service's logic: looks up an order and renders it as a page.

use std::collections::HashMap;
use std::fmt;
use std::fmt::Write;

use otlp_collector::span::{InstrumentationScope, Scope, StatusRef};
use otlp_collector::{instrument, span};

use crate::http::{Request, Response};

const ORDERS: u32 = 10_000;
const LINES: u32 = 8;

/// Returns the scope of the look-ups, which belong to another component than the pages.
pub fn storage_scope() -> InstrumentationScope {
    InstrumentationScope {
        version: "1.0.0".to_string(),
        ..InstrumentationScope::new("shop-storage")
    }
}

/// Orders in memory.
pub struct Shop {
    orders: HashMap<u32, Vec<Line>>,
    storage: Scope,
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
    pub fn new(storage: Scope) -> Self {
        let line = |order, number| Line {
            item: order * 31 + number,
            cents: u64::from(order % 97 * 100 + number),
        };
        let lines = |order| (0..LINES).map(|number| line(order, number)).collect();
        Self {
            orders: (0..ORDERS).map(|order| (order, lines(order))).collect(),
            storage,
        }
    }

    pub fn answer(&self, request: &Request<'_>) -> Response {
        if !matches!(request.method, "GET" | "HEAD") {
            return Response::text(405, "only GET and HEAD\n");
        }
        let path = request.path.split('?').next().unwrap_or("");
        match path {
            "/" => Response::text(200, "try /orders/7, /orders/99999, /fail\n"),
            "/fail" => Response::text(500, "failed as requested\n"),
            _ => match path.strip_prefix("/orders/").and_then(|id| id.parse().ok()) {
                Some(id) => self.order(id),
                None => Response::text(404, "not found\n"),
            },
        }
    }

    fn order(&self, id: u32) -> Response {
        match self.look_up(id) {
            Ok(lines) => Response::json(200, render(id, lines)),
            Err(error) => Response::text(404, &format!("{error}\n")),
        }
    }

    fn look_up(&self, id: u32) -> Result<&[Line], NoSuchOrder> {
        let mut span = span!(
            "SELECT order_line",
            scope: &self.storage,
            db.system.name = "in-memory",
            shop.order.id = id,
        );
        let found = self.orders.get(&id).ok_or(NoSuchOrder(id));
        match &found {
            Ok(lines) => span.set_attribute("db.response.returned_rows", lines.len()),
            Err(error) => span
                .record_error(error)
                .set_status(StatusRef::Error("not found")),
        };
        found.map(Vec::as_slice)
    }
}

#[instrument(name = "render order", skip_all)]
fn render(id: u32, lines: &[Line]) -> String {
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
    otlp_collector::current().set_attribute("shop.page.bytes", page.len());
    page
}
