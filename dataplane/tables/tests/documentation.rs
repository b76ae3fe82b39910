//! The page of honoured fields says what the code does.
//!
//! `RINGSAIL_WRITE=1 cargo test -p ringsail-tables --test documentation` writes it.

use std::path::Path;

#[test]
fn the_page_of_honoured_fields_is_up_to_date() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/docs/envoy-fields.md");
    let page = ringsail_tables::compile::support::page();
    if std::env::var_os("RINGSAIL_WRITE").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page,
        "deploy/docs/envoy-fields.md is out of date: run this test with RINGSAIL_WRITE=1"
    );
}
