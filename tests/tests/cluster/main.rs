//! Migrations on a real cluster, of a workload that knows what it was promised. The cluster is the
//! one of `LIVMIG_KUBECONFIG`; `cargo xtask test` makes one and runs this, or takes that of its
//! `--kubeconfig`.

#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value that is not there is null, and no panic"
)]

mod drained;
mod admission;
mod fixture;
mod killed;
mod migrate;
mod place;
mod network;
mod refused;
mod rights;
mod rolled_back;
mod taken_over;
