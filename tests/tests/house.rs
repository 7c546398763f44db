//! The order of the house: a module imports only from those below it.

use std::fs;
use std::path::{Path, PathBuf};

/// From the front door down.
const MODULES: [&str; 15] = [
    "internals",
    "testing",
    "collector",
    "recorder",
    "exporter",
    "processor",
    "shared",
    "config",
    "buffer",
    "metrics",
    "otlp",
    "error",
    "span",
    "stats",
    "platform",
];

fn position(module: &str) -> usize {
    let found = MODULES.iter().position(|other| *other == module);
    found.unwrap_or_else(|| panic!("the module {module} has no place in the order"))
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn imports_point_one_way() {
    let src = common::root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut imports = 0;
    for file in files {
        let relative = file.strip_prefix(&src).unwrap().with_extension("");
        let module = relative.iter().next().unwrap().to_str().unwrap();
        if module == "lib" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        // Tests may look anywhere.
        let code = text.split("#[cfg(all(test").next().unwrap();
        for line in code.lines().filter(|line| !line.trim().starts_with("//")) {
            // What macros for users name is found from the crate's root.
            let line = line.replace("$crate::", "");
            for import in line.split("crate::").skip(1) {
                let end = import.find(|c: char| !c.is_alphanumeric() && c != '_');
                let (imported, rest) = import.split_at(end.unwrap_or(import.len()));
                if rest.starts_with('!') {
                    continue; // a macro of ours, which stands nowhere
                }
                imports += 1;
                assert!(
                    position(imported) >= position(module),
                    "{} imports upwards from {imported}",
                    file.display()
                );
            }
        }
    }
    assert!(imports > 50, "only {imports} imports found");
}
