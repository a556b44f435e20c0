//! The odd file system of tests: `livmig-oddfs BACKING MOUNTPOINT ODDITY [VICTIM]`.

use anyhow::Result;

fn main() -> Result<()> {
    livmig_tests::odd::serve(std::env::args_os().skip(1))
}
