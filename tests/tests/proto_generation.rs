//! The committed prost types match the files in `proto/`.

use std::fs;
use std::path::Path;

/// Regenerates `src/otlp/proto.rs` and compares it with the committed file.
///
/// After a change of a `.proto` file, run this test with `OTLP_COLLECTOR_UPDATE_PROTO=1` to write the
/// new file.
#[test]
fn committed_types_match_the_proto_files() {
    let root = common::root();
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proto");
    fs::create_dir_all(&out).unwrap();

    let descriptors =
        protox::compile(["trace.proto", "metrics.proto"], [root.join("proto")]).unwrap();
    prost_build::Config::new()
        .out_dir(&out)
        .compile_fds(descriptors)
        .unwrap();
    let generated = fs::read_to_string(out.join("otlp.rs")).unwrap();

    let committed = root.join("src/otlp/proto.rs");
    if std::env::var_os("OTLP_COLLECTOR_UPDATE_PROTO").is_some() {
        fs::write(&committed, &generated).unwrap();
    }
    assert_eq!(
        generated,
        fs::read_to_string(&committed).unwrap(),
        "src/otlp/proto.rs is stale: see this test's comment"
    );
}
