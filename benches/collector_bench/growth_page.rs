//! The growth as the content of a page.

use crate::growth::{Growth, Step, Sweep};
use crate::plot::{Axis, Plot, Series};

pub fn content(growth: &Growth) -> String {
    let figures: String = growth.sweeps.iter().map(figure).collect();
    format!(
        "<p>CPU time of the whole process, the kernel's included, for each span that an endpoint \
         receives. Medians of the rounds.</p>\n<div class=\"figures\">{figures}</div>\n"
    )
}

fn figure(sweep: &Sweep) -> String {
    let steps = &sweep.steps;
    let line = |name: &str, colour, value: fn(&Step) -> f64| {
        let points = steps.iter().map(|step| (step.at as f64, value(step)));
        Series::line(name, colour, points.collect())
    };
    let series = vec![
        line("of a span", "flat-out", |step| step.cpu_ns_per_span),
        line("of a KB", "kilobyte", Step::cpu_ns_per_kilobyte),
    ];
    let values: Vec<_> = series.iter().flat_map(Series::values).collect();
    let plot = Plot {
        title: sweep.title.clone(),
        series,
        x: Axis::at(&sweep.changed, steps.iter().map(|step| step.at)),
        y: Axis::log_nanos("CPU time", &values),
    };
    plot.figure("")
}
