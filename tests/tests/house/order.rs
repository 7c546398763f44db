//! The order of the modules: each imports only from the ones below it.

use crate::imports::Modules;
use crate::scanner::Kind;
use crate::source::{Source, from_texts, library, text};
use crate::{assert_found, check};

/// All modules from top to bottom. This is the master list; a table in ARCHITECTURE.md repeats it.
const MODULES: [&str; 17] = [
    "manual",
    "internals",
    "testing",
    "tracing",
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

/// The heading in ARCHITECTURE.md that the table follows.
const HEADING: &str = "## Modules, from top to bottom";

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
                     MODULES in tests/tests/house/order.rs and in ARCHITECTURE.md."
                )),
            }
        }
    }
    (findings, imports)
}

/// Returns the differences of `lib`'s modules, and of the table in `architecture`, from the order.
fn differences(lib: &Source, architecture: &str, order: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    let pairs = lib.code.windows(2);
    let declared: Vec<_> = pairs.filter(|pair| pair[0].text == "mod").collect();
    for pair in &declared {
        let [keyword, name] = pair else { continue };
        if name.kind == Kind::Word && !order.contains(&name.text) {
            findings.push(format!(
                "{}:{}: the module `{}` has no place in the order. Give it one in MODULES in \
                 tests/tests/house/order.rs and in ARCHITECTURE.md.",
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
    let rows = architecture
        .lines()
        .skip_while(|line| *line != HEADING)
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    if !rows.eq(order.iter().copied()) {
        findings.push(format!(
            "ARCHITECTURE.md:1: the table under \"{HEADING}\" differs from MODULES in \
             tests/tests/house/order.rs. Its rows are: `{}`.",
            order.join("`, `")
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
fn the_architecture_lists_the_modules_in_their_order() {
    let lib = library().iter().find(|source| source.path == "src/lib.rs");
    check(&differences(
        lib.unwrap(),
        &text("ARCHITECTURE.md"),
        &MODULES,
    ));
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
    let lib = Source::new("src/lib.rs", "mod low;\nmod new;");
    let table = format!("{HEADING}\n| `low` | a |");
    let findings = differences(&lib, &table, &["low"]);
    assert_found(&findings, &["src/lib.rs:2", "`new` has no place"]);
}

#[test]
fn a_table_in_another_order_is_found() {
    let lib = Source::new("src/lib.rs", "mod top; mod low;");
    let table = format!("{HEADING}\n\n| `low` | a |\n| `top` | b |\n\n## Other\n| `other` |");
    let findings = differences(&lib, &table, &["top", "low"]);
    assert_found(&findings, &["ARCHITECTURE.md:1", "`top`, `low`."]);
}
