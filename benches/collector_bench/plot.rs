//! Line plots as SVG.

use std::fmt::Write;

/// A line and its name.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// How a value becomes a place on an axis.
#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    Linear,
    Log,
}

/// An axis: its title, its scale, and where it is marked, with what.
pub struct Axis {
    pub title: String,
    pub scale: Scale,
    pub marks: Vec<(f64, String)>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 60.0;
const COLOURS: [&str; 8] = [
    "#1b6ca8", "#c8553d", "#588157", "#8d5a97", "#e0a100", "#3a3a3a", "#4bb3a4", "#b5838d",
];

/// The plot as an `<svg>` element.
pub fn svg(lines: &[Line], x: &Axis, y: &Axis) -> String {
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
    for (at, text) in &x.marks {
        let place = x_place(x, *at);
        let bottom = HEIGHT - BOTTOM;
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{place:.1} {TOP}V{bottom}\"/>\
             <text x=\"{place:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
            bottom + 18.0
        );
    }
    for (at, text) in &y.marks {
        let place = y_place(y, *at);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {place:.1}H{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            place + 4.0
        );
    }
    for (index, line) in lines.iter().enumerate() {
        svg += &one_line(line, index, x, y);
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 14.0,
        x.title,
        (TOP + HEIGHT - BOTTOM) / 2.0,
        y.title
    );
    svg + "</svg>\n"
}

fn one_line(line: &Line, index: usize, x: &Axis, y: &Axis) -> String {
    let colour = COLOURS[index % COLOURS.len()];
    let points: Vec<_> = (line.points.iter())
        .map(|(at_x, at_y)| format!("{:.1},{:.1}", x_place(x, *at_x), y_place(y, *at_y)))
        .collect();
    let legend = TOP + 14.0 + 20.0 * index as f64;
    format!(
        "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
         <path d=\"M{:.1} {legend}h18\" stroke=\"{colour}\" stroke-width=\"3\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
        points.join(" "),
        WIDTH - RIGHT + 12.0,
        WIDTH - RIGHT + 36.0,
        legend + 4.0,
        line.name
    )
}

fn x_place(axis: &Axis, at: f64) -> f64 {
    LEFT + axis.place(at) * (WIDTH - LEFT - RIGHT)
}

fn y_place(axis: &Axis, at: f64) -> f64 {
    HEIGHT - BOTTOM - axis.place(at) * (HEIGHT - TOP - BOTTOM)
}

impl Axis {
    /// From 0 to the next round number beyond `max`.
    pub fn linear(title: &str, max: f64) -> Self {
        const MARKS: f64 = 5.0;
        let rough = (max / MARKS).max(f64::MIN_POSITIVE);
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| step * MARKS >= max)
            .unwrap_or(rough);
        let marks = (0..=MARKS as u32).map(|mark| step * f64::from(mark));
        Self {
            title: title.to_string(),
            scale: Scale::Linear,
            marks: marks.map(|at| (at, short(at))).collect(),
        }
    }

    /// From the power of ten below `min` to the one above `max`.
    pub fn log(title: &str, min: f64, max: f64) -> Self {
        let (first, last) = (min.log10().floor() as i32, max.log10().ceil() as i32);
        let marks = (first..=last.max(first + 1)).map(|power| 10_f64.powi(power));
        Self {
            title: title.to_string(),
            scale: Scale::Log,
            marks: marks.map(|at| (at, short(at))).collect(),
        }
    }

    /// At just these values, evenly if each is a multiple of the one before.
    pub fn at(title: &str, values: impl IntoIterator<Item = u64>) -> Self {
        let marks = values.into_iter().map(|at| (at as f64, at.to_string()));
        Self {
            title: title.to_string(),
            scale: Scale::Log,
            marks: marks.collect(),
        }
    }

    /// From 0 at the first mark to 1 at the last.
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

/// A number in few digits.
fn short(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{}G", trimmed(n / 1e9)),
        n if n >= 1e6 => format!("{}M", trimmed(n / 1e6)),
        n if n >= 1e4 => format!("{}k", trimmed(n / 1e3)),
        n => trimmed(n),
    }
}

fn trimmed(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
