//! livmig's benchmarks, below `benches/`. They measure; that something is right, the tests prove.
//!
//! `cargo bench -p livmig-benches` runs all of them; a name after `--` picks some.
