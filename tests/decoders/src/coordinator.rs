//! What a coordinator reads from its journals and from the API server.

use std::fs;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use livmig_coord::{file_journal as journals, quantity as quantities};
use livmig_engine::record::Record;

/// One line of a journal, from a file or a `ConfigMap`.
pub fn record(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(record) = Record::decode(text)
        && let Ok(line) = record.encode()
    {
        assert!(!line.contains('\n'), "a record of two lines");
        assert!(Record::decode(&line).is_ok(), "{line}");
    }
}

/// A whole journal in a file.
pub fn journal(data: &[u8]) {
    let Ok(dir) = tempfile::tempdir() else {
        return;
    };
    let path = dir.path().join("journal");
    if fs::write(&path, data).is_err() {
        return;
    }
    if let Ok(loaded) = journals::read(&path) {
        let lines = data.split(|byte| *byte == b'\n').count() - 1;
        assert_eq!(loaded.records.len(), lines);
        assert!(loaded.torn <= data.len());
    }
}

/// An amount as Kubernetes writes it.
pub fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(amount) = quantities::amount(&Quantity(text.to_owned())) {
        let written = quantities::bytes(amount);
        assert_eq!(quantities::amount(&Quantity(written)), Some(amount));
    }
}
