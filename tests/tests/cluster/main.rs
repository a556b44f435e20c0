//! Migrations on a real cluster, of a workload that knows what it was promised. The cluster is the
//! one of `LIVMIG_KUBECONFIG`; `cargo xtask test` makes one and runs this, or takes that of its
//! `--kubeconfig`.

#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value that is not there is null, and no panic"
)]

mod admission;
mod delayed;
mod denied;
mod drained;
mod fixture;
mod interrupted;
mod killed;
mod migrate;
mod network;
mod place;
mod races;
mod refused;
mod restricted;
mod rights;
mod rolled_back;
mod taken_over;
mod under_way;
