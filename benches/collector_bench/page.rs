//! Output of a run below `target`: results in JSON, self-contained pages, and files for the HDR plotters.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::growth::Growth;
use crate::hdr::Distribution;
use crate::report::{Report, Size, distribution};
use crate::{growth_page, report_page};

const STYLE: &str = include_str!("page.css");
const REPORT: &str = "report.json";
const GROWTH: &str = "growth.json";

/// Writes results below `target/bench-report`, or `target/bench-trial` for a trial.
pub fn write(
    report: Option<&Report>,
    growth: Option<&Growth>,
    size: Size,
) -> Result<(), Box<dyn Error>> {
    let directory = directory(size);
    fs::create_dir_all(&directory)?;
    if let Some(report) = report {
        fs::write(directory.join(REPORT), report.json().to_string())?;
        write_hgrm(report, &directory)?;
        let content = report_page::content(report);
        write_page(&directory, "report", &report.measured, &content)?;
    }
    if let Some(growth) = growth {
        fs::write(directory.join(GROWTH), growth.json().to_string())?;
        let content = growth_page::content(growth);
        write_page(&directory, "growth", &growth.measured, &content)?;
    }
    Ok(())
}

/// Makes the pages of the last measurements again.
pub fn draw() -> Result<(), Box<dyn Error>> {
    let directory = directory(Size::FULL);
    let read = |name: &str| -> Result<Option<Value>, Box<dyn Error>> {
        let file = directory.join(name);
        if !file.exists() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&fs::read(file)?)?))
    };
    let report = read(REPORT)?.as_ref().map(Report::from_json);
    let growth = read(GROWTH)?.as_ref().map(Growth::from_json);
    if report.is_none() && growth.is_none() {
        let directory = directory.display();
        return Err(format!("no results in {directory}; measure first: -- report").into());
    }
    write(report.as_ref(), growth.as_ref(), Size::FULL)
}

fn write_page(
    directory: &Path,
    name: &str,
    measured: &str,
    content: &str,
) -> Result<(), Box<dyn Error>> {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>otlp-collector: bench {name}</title>\n<style>\n{STYLE}</style>\n\
         <h1>otlp-collector: bench {name}</h1>\n<p class=\"quiet\">{}</p>\n{content}</html>\n",
        escaped(measured)
    );
    let file = directory.join(name).with_extension("html");
    fs::write(&file, page)?;
    println!("\nwritten: {}", file.display());
    Ok(())
}

/// Returns the date, and the machine that measures.
pub fn measured() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = cpus.lines();
    let model = lines.find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |model| model.trim_start_matches([' ', '\t', ':']));
    let cores = otlp_collector::Collector::cores().len();
    format!("{}, {cores} cores, {model}", date().unwrap_or_default())
}

fn date() -> Option<String> {
    let output = Command::new("date").args(["-u", "+%F %R UTC"]).output();
    let date = String::from_utf8(output.ok()?.stdout).ok()?;
    Some(date.trim().to_string())
}

fn directory(size: Size) -> PathBuf {
    // Next to where cargo put this program.
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.ancestors().nth(3).map(Path::to_path_buf);
    let name = if size.is_trial() {
        "bench-trial"
    } else {
        "bench-report"
    };
    target.unwrap_or_default().join(name)
}

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn write_hgrm(report: &Report, directory: &Path) -> Result<(), Box<dyn Error>> {
    for (name, distribution) in distributions(report) {
        fs::write(directory.join(hgrm_file(&name)), distribution.hgrm())?;
    }
    Ok(())
}

/// Returns all distributions of a report, with the names of their files.
pub fn distributions(report: &Report) -> Vec<(String, Distribution)> {
    let mut all = Vec::new();
    for (endpoint, found) in &report.record {
        for (name, field) in [("record", "record_ns"), ("jitter", "jitter_ns")] {
            all.push((format!("{name}-ns {endpoint}"), distribution(&found[field])));
        }
    }
    let delivery = |found: &Value| distribution(&found["delivery_ms"]);
    all.push(("delivery-ms paced".into(), delivery(&report.paced)));
    if let Some(first) = report.flat_out.first() {
        all.push(("delivery-ms flat-out".into(), delivery(first)));
    }
    all
}

pub fn hgrm_file(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-") + ".hgrm"
}
