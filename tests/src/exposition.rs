//! A strict check of Prometheus' text format, version 0.0.4.

use std::collections::{HashMap, HashSet};

/// A sample line.
struct Sample<'p> {
    name: &'p str,
    labels: Vec<(&'p str, String)>,
    value: f64,
}

/// Checks a page: each family has one `HELP` and one `TYPE`, directly followed by all its samples;
/// no series occurs twice; histograms are cumulative.
pub fn check(page: &str) {
    assert!(page.ends_with('\n'), "the last line is not terminated");
    let mut families = HashSet::new();
    let mut series = HashSet::new();
    let mut family: Option<(&str, &str)> = None;
    let mut help = None;
    let mut samples: Vec<Sample<'_>> = Vec::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            check_family(family, &samples);
            samples.clear();
            let (name, text) = rest.split_once(' ').expect("a description");
            assert!(!text.is_empty() && families.insert(name), "{line}");
            help = Some(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(help, Some(name), "TYPE without HELP: {line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            family = Some((name, kind));
        } else {
            let sample = parse(line);
            let mut labels = sample.labels.clone();
            labels.sort();
            assert!(
                series.insert((sample.name.to_string(), labels)),
                "twice: {line}"
            );
            samples.push(sample);
        }
    }
    check_family(family, &samples);
    assert!(families.len() > 10, "{page}");
}

fn parse(line: &str) -> Sample<'_> {
    let end = line.find(['{', ' ']).expect("a value");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Vec::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inner.split_once("=\"").expect("a label");
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let (value, after) = unquote(after);
            labels.push((label, value));
            match after.strip_prefix(',') {
                Some(next) => inner = next,
                None => {
                    rest = after.strip_prefix('}').expect("the end of the labels");
                    break;
                }
            }
        }
        let names: HashSet<_> = labels.iter().map(|(label, _)| label).collect();
        assert_eq!(names.len(), labels.len(), "a duplicate label: {line}");
    }
    let value = rest.strip_prefix(' ').expect("a value");
    Sample {
        name,
        labels,
        value: value.parse().unwrap_or_else(|_| panic!("{line}")),
    }
}

fn is_name(name: &str) -> bool {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit())
}

/// Returns the unescaped text up to the closing quote, and the rest.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next().expect("an escaped character").1 {
                'n' => value.push('\n'),
                c @ ('\\' | '"') => value.push(c),
                c => panic!("\\{c}"),
            },
            c => value.push(c),
        }
    }
    panic!("no closing quote: {text}")
}

fn check_family(family: Option<(&str, &str)>, samples: &[Sample<'_>]) {
    let Some((name, kind)) = family else {
        return assert!(samples.is_empty(), "samples without TYPE");
    };
    if kind == "histogram" {
        return check_histogram(name, samples);
    }
    assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
    for sample in samples {
        assert_eq!(sample.name, name);
        assert!(sample.value >= 0.0 && sample.value.is_finite());
    }
}

fn check_histogram(name: &str, samples: &[Sample<'_>]) {
    let mut series: HashMap<Vec<(&str, String)>, Vec<&Sample<'_>>> = HashMap::new();
    for sample in samples {
        let labels = sample.labels.iter().filter(|(label, _)| *label != "le");
        series
            .entry(labels.cloned().collect())
            .or_default()
            .push(sample);
    }
    for samples in series.values() {
        let of = |suffix: &str| {
            let name = format!("{name}{suffix}");
            samples.iter().filter(move |sample| sample.name == name)
        };
        let buckets = of("_bucket").map(|sample| {
            let bounds = sample.labels.iter().filter(|(label, _)| *label == "le");
            let bounds: Vec<_> = bounds.map(|(_, bound)| bound).collect();
            let [bound] = bounds[..] else {
                panic!("{name}: {bounds:?}")
            };
            match &**bound {
                "+Inf" => (f64::INFINITY, sample.value),
                bound => (bound.parse().unwrap(), sample.value),
            }
        });
        let buckets: Vec<(f64, f64)> = buckets.collect();
        assert!(buckets.len() > 10, "{name}");
        assert!(
            buckets.is_sorted_by(|(a, b), (c, d)| a < c && b <= d),
            "{name}"
        );
        let (bound, all) = *buckets.last().unwrap();
        assert_eq!(bound, f64::INFINITY);
        let counts: Vec<_> = of("_count").map(|sample| sample.value).collect();
        assert_eq!(counts, [all], "{name}");
        assert_eq!(of("_sum").count(), 1, "{name}");
        assert_eq!(samples.len(), buckets.len() + 2, "{name}");
    }
}
