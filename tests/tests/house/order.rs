//! The order of the modules: each imports only from the ones below it.

use crate::imports::Modules;
use crate::scanner::Kind;
use crate::source::{Source, from_texts, library};
use crate::{assert_found, check};

/// All modules from top to bottom. This is the master list; the crate page repeats it.
const MODULES: [&str; 16] = [
    "manual",
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

/// Modules behind features or for the documentation alone, which the crate page leaves out.
const BEHIND_FEATURES: [&str; 3] = ["internals", "manual", "testing"];

/// The words on the crate page that the list follows.
const LIST_FOLLOWS: &str = "Files import only from those below them:";

/// Returns findings for imports that point upwards, and the number of all imports.
fn upward_imports(sources: &[Source], order: &[&str]) -> (Vec<String>, usize) {
    let position = |module: &str| order.iter().position(|other| *other == module);
    let modules = Modules::new(sources);
    let mut findings = Vec::new();
    let mut imports = 0;
    for source in sources {
        let module = source.module();
        // The root re-exports from everywhere.
        let Some(module) = module.first() else {
            continue;
        };
        for import in modules.imports(source) {
            if import.is_macro && import.path.len() == 1 {
                continue; // an exported macro, which has no module
            }
            imports += 1;
            let place = format!("{}:{}", source.path, import.line);
            let imported = import.path.first().copied().unwrap_or_default();
            match (position(module), position(imported)) {
                (Some(importer), Some(imported)) if imported >= importer => {}
                (Some(_), Some(_)) => findings.push(format!(
                    "{place}: `{module}` imports from `{imported}`, which stands above it. Move \
                     what both need down, or pass it in from above."
                )),
                (Some(_), None) => findings.push(format!(
                    "{place}: `crate::{imported}` is a name of the crate page, not a module. \
                     Import it from the module it is declared in."
                )),
                (None, _) => findings.push(format!(
                    "{place}: the module `{module}` has no place in the order. Give it one in \
                     MODULES in tests/tests/house/order.rs and on the crate page."
                )),
            }
        }
    }
    (findings, imports)
}

/// Returns the differences of `lib`'s modules, and of the list on its page, from the order.
fn differences(lib: &Source, order: &[&str], behind_features: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    let pairs = lib.code.windows(2);
    let declared: Vec<_> = pairs.filter(|pair| pair[0].text == "mod").collect();
    for pair in &declared {
        let [keyword, name] = pair else { continue };
        if name.kind == Kind::Word && !order.contains(&name.text) {
            findings.push(format!(
                "{}:{}: the module `{}` has no place in the order. Give it one in MODULES in \
                 tests/tests/house/order.rs and on the crate page.",
                lib.path, keyword.line, name.text
            ));
        }
    }
    for module in order {
        if !declared.iter().any(|pair| pair[1].text == *module) {
            findings.push(format!(
                "{}:1: the order has a place for `{module}`, which is not declared. Remove it \
                 from MODULES in tests/tests/house/order.rs.",
                lib.path
            ));
        }
    }
    let lines = lib.comments.iter();
    let page: Vec<_> = lines
        .map(|line| line.text.trim_start_matches("//!"))
        .collect();
    let page = page.join("");
    let list = page
        .split_once(LIST_FOLLOWS)
        .and_then(|(_, after)| after.split_once('.'))
        .map(|(list, _)| list.split('`').skip(1).step_by(2).collect::<Vec<_>>());
    let mut expected = order.to_vec();
    expected.retain(|module| !behind_features.contains(module));
    if list.as_ref() != Some(&expected) {
        let line = lib.comments.iter();
        let mut line = line.filter(|line| line.text.contains("Files import only"));
        findings.push(format!(
            "{}:{}: the crate page lists the modules otherwise than MODULES in \
             tests/tests/house/order.rs. After \"{LIST_FOLLOWS}\" write: `{}`.",
            lib.path,
            line.next().map_or(1, |line| line.line),
            expected.join("`, `")
        ));
    }
    findings
}

#[test]
fn imports_point_down() {
    let (findings, imports) = upward_imports(library(), &MODULES);
    check(&findings);
    assert!(imports > 400, "only {imports} imports found");
}

#[test]
fn the_crate_page_lists_the_modules_in_their_order() {
    let lib = library().iter().find(|source| source.path == "src/lib.rs");
    check(&differences(lib.unwrap(), &MODULES, &BEHIND_FEATURES));
}

#[test]
fn an_import_below_a_test_module_is_found() {
    let text = "#[cfg(test)]\nmod tests { use crate::top::B; }\nuse crate::top::C;";
    let sources = from_texts([("src/top.rs", ""), ("src/low.rs", text)]);
    let (findings, _) = upward_imports(&sources, &["top", "low"]);
    assert_found(&findings, &["src/low.rs:3", "`top`, which stands above"]);
}

#[test]
fn an_import_from_the_crate_page_is_found() {
    let sources = from_texts([("src/low.rs", "use crate::{Thing}; crate::macro_of_ours!()")]);
    let (findings, _) = upward_imports(&sources, &["low"]);
    assert_found(&findings, &["src/low.rs:1", "`crate::Thing`"]);
}

#[test]
fn a_module_without_a_position_is_found() {
    let sources = from_texts([("src/new.rs", "fn a() { self::b() }")]);
    let (findings, _) = upward_imports(&sources, &["low"]);
    assert_found(&findings, &["src/new.rs:1", "`new` has no place"]);
    let page = format!("//! {LIST_FOLLOWS} `low`.\nmod low;\nmod new;");
    let lib = Source::new("src/lib.rs", &page);
    let findings = differences(&lib, &["low"], &[]);
    assert_found(&findings, &["src/lib.rs:3", "`new` has no place"]);
}

#[test]
fn a_crate_page_in_another_order_is_found() {
    let page = "//! Files import only from those below them: `low`,\n//! `top`.\nmod top; mod low;";
    let lib = Source::new("src/lib.rs", page);
    let findings = differences(&lib, &["top", "low"], &[]);
    assert_found(&findings, &["src/lib.rs:1", "`top`, `low`."]);
}
