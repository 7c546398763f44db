//! Plots as figures of a page: an SVG with its title above and its legend below, as text that wraps.

use std::fmt::Write;

/// A figure with one plot.
pub struct Plot {
    pub title: String,
    pub series: Vec<Series>,
    pub x: Axis,
    pub y: Axis,
}

/// A named line or band. `colour` is a class of `page.css` and stands for one thing on all pages.
pub struct Series {
    pub name: String,
    pub colour: &'static str,
    pub shape: Shape,
}

pub enum Shape {
    Line(Vec<(f64, f64)>),
    /// x, lowest and highest y.
    Band(Vec<(f64, f64, f64)>),
}

/// An axis: its title, its scale, and its marks with their labels.
#[derive(Clone)]
pub struct Axis {
    title: String,
    scale: Scale,
    marks: Vec<(f64, String)>,
}

#[derive(Clone, Copy)]
enum Scale {
    Linear,
    Log,
}

// About the size of a figure on the page, so that text keeps its size.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 44.0;

impl Plot {
    /// Returns a `<figure>`, in which `below` stands below the legend.
    pub fn figure(&self, below: &str) -> String {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            self.title
        );
        self.write_x_axis(&mut svg);
        self.write_y_axis(&mut svg);
        let mut legend = String::new();
        for series in &self.series {
            svg += &self.shape(series);
            let Series {
                name,
                colour,
                shape,
            } = series;
            let kind = match shape {
                Shape::Line(_) => "",
                Shape::Band(_) => " range",
            };
            let _ = write!(legend, "<li class=\"{colour}{kind}\">{name}</li>");
        }
        format!(
            "<figure><figcaption>{}</figcaption>\n{svg}</svg>\n<ul class=\"legend\">{legend}</ul>\n\
             {below}</figure>\n",
            self.title
        )
    }

    fn write_x_axis(&self, svg: &mut String) {
        let bottom = HEIGHT - BOTTOM;
        for (at, label) in &self.x.marks {
            let x = self.x(*at);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>\
                 <text class=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>",
                bottom + 16.0
            );
        }
        let _ = writeln!(
            svg,
            "<text class=\"middle title\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 8.0,
            self.x.title
        );
    }

    fn write_y_axis(&self, svg: &mut String) {
        for (at, label) in &self.y.marks {
            let y = self.y(*at);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/>\
                 <text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0
            );
        }
        let _ = writeln!(
            svg,
            "<text class=\"title\" x=\"4\" y=\"{:.1}\">{}</text>",
            TOP - 12.0,
            self.y.title
        );
    }

    fn shape(&self, series: &Series) -> String {
        let point = |x: f64, y: f64| format!("{:.1},{:.1}", self.x(x), self.y(y));
        let colour = series.colour;
        match &series.shape {
            Shape::Line(points) => {
                let points: Vec<_> = points.iter().map(|(x, y)| point(*x, *y)).collect();
                let points = points.join(" ");
                format!("<polyline class=\"line {colour}\" points=\"{points}\"/>\n")
            }
            Shape::Band(points) => {
                let highest = points.iter().map(|(x, _, high)| point(*x, *high));
                let lowest = points.iter().rev().map(|(x, low, _)| point(*x, *low));
                let points: Vec<_> = highest.chain(lowest).collect();
                let points = points.join(" ");
                format!("<polygon class=\"band {colour}\" points=\"{points}\"/>\n")
            }
        }
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + self.x.place(at) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, at: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(at) * (HEIGHT - TOP - BOTTOM)
    }
}

impl Series {
    pub fn line(name: impl Into<String>, colour: &'static str, points: Vec<(f64, f64)>) -> Self {
        let name = name.into();
        let shape = Shape::Line(points);
        Self {
            name,
            colour,
            shape,
        }
    }

    /// Returns all values on the y axis.
    pub fn values(&self) -> Vec<f64> {
        match &self.shape {
            Shape::Line(points) => points.iter().map(|point| point.1).collect(),
            Shape::Band(points) => (points.iter())
                .flat_map(|(_, low, high)| [*low, *high])
                .collect(),
        }
    }
}

impl Axis {
    /// Creates an axis from 0 to the next round number beyond `max`.
    pub fn linear(title: &str, max: f64) -> Self {
        const MARKS: f64 = 5.0;
        let rough = (max / MARKS).max(f64::MIN_POSITIVE);
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| step * MARKS >= max)
            .unwrap_or(rough);
        let last = (max / step).ceil() as u32;
        let marks = (0..=last.max(1)).map(|mark| step * f64::from(mark));
        Self {
            title: title.to_string(),
            scale: Scale::Linear,
            marks: marks.map(|at| (at, trimmed(at))).collect(),
        }
    }

    /// Nanoseconds from the round number below the least value to the one above the greatest.
    pub fn log_nanos(title: &str, values: &[f64]) -> Self {
        let (min, max) = (lowest(values).max(1.0), highest(values));
        let (first, last) = (min.log10().floor() as i32, max.log10().ceil() as i32);
        // A short axis has more marks between its powers of ten.
        let factors: &[f64] = if last - first <= 2 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let all: Vec<_> = (first..=last)
            .flat_map(|power| {
                factors
                    .iter()
                    .map(move |factor| factor * 10_f64.powi(power))
            })
            .collect();
        let begin = all.iter().rposition(|mark| *mark <= min).unwrap_or(0);
        let end = all
            .iter()
            .position(|mark| *mark >= max)
            .unwrap_or(all.len() - 1);
        let marks = &all[begin..=end.max(begin + 1)];
        Self {
            title: title.to_string(),
            scale: Scale::Log,
            marks: marks.iter().map(|at| (*at, nanos(*at))).collect(),
        }
    }

    /// Percentiles at 1 / (1 - quantile), so that each nine has the same width.
    pub fn percentiles(max: f64) -> Self {
        const NINES: [&str; 7] = ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999"];
        let powers = (max.log10().ceil().max(1.0) as usize).min(NINES.len() - 1);
        let marks = NINES.iter().enumerate().take(powers + 1);
        Self {
            title: "percentile".to_string(),
            scale: Scale::Log,
            marks: marks
                .map(|(power, label)| (10_f64.powi(power as i32), label.to_string()))
                .collect(),
        }
    }

    /// Creates an axis with exactly these values, evenly spaced if each is the same multiple of the one before.
    pub fn at(title: &str, values: impl IntoIterator<Item = u64>) -> Self {
        let marks = values.into_iter().map(|at| (at as f64, at.to_string()));
        Self {
            title: title.to_string(),
            scale: Scale::Log,
            marks: marks.collect(),
        }
    }

    /// Returns the position of a value, from 0 at the first mark to 1 at the last.
    fn place(&self, at: f64) -> f64 {
        let along = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
        };
        let (Some((first, _)), Some((last, _))) = (self.marks.first(), self.marks.last()) else {
            return 0.0;
        };
        let place = (along(at) - along(*first)) / (along(*last) - along(*first));
        place.clamp(0.0, 1.0)
    }
}

pub fn lowest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

pub fn highest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Formats a time in nanoseconds in the unit that keeps it short, with three digits.
pub fn nanos(nanos: f64) -> String {
    let (number, unit) = match nanos {
        n if n >= 1e9 => (n / 1e9, "s"),
        n if n >= 1e6 => (n / 1e6, "ms"),
        n if n >= 1e3 => (n / 1e3, "µs"),
        n => (n, "ns"),
    };
    let digits = match number {
        n if n >= 100.0 => 0,
        n if n >= 10.0 => 1,
        _ => 2,
    };
    let number = format!("{number:.digits$}");
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => &number,
    };
    format!("{number} {unit}")
}

fn trimmed(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
