//! Executables: what they run on, and whether they need anything else to run.

use anyhow::{Context as _, Result, bail, ensure};

/// The kind of processor an executable is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Architecture {
    /// `x86_64`.
    Amd64,
    /// `aarch64`.
    Arm64,
}

impl Architecture {
    /// Its name in image configurations.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// `e_machine` of the architectures known here.
const MACHINES: [(u16, Architecture); 2] = [(62, Architecture::Amd64), (183, Architecture::Arm64)];

/// The type of a program header that names a dynamic linker.
const PT_INTERP: u32 = 3;

/// The least size of a program header of a 64-bit executable, in bytes.
const PROGRAM_HEADER: usize = 56;

/// The architecture of a static executable for Linux. An executable that asks for a dynamic linker
/// is an error: in an empty image there is none.
pub(super) fn static_executable(bytes: &[u8]) -> Result<Architecture> {
    // Magic, 64 bits, least significant byte first.
    ensure!(
        bytes.starts_with(b"\x7fELF\x02\x01"),
        "not a 64-bit little-endian ELF file"
    );
    let machine = u16::from_le_bytes(field(bytes, 18)?);
    let Some((_, architecture)) = MACHINES.into_iter().find(|(known, _)| *known == machine) else {
        bail!("for a machine that is not known here (e_machine {machine})");
    };
    let start = usize::try_from(u64::from_le_bytes(field(bytes, 32)?))?;
    let size = usize::from(u16::from_le_bytes(field(bytes, 54)?));
    let count = usize::from(u16::from_le_bytes(field(bytes, 56)?));
    ensure!(
        count > 0 && size >= PROGRAM_HEADER,
        "an ELF file without program headers is no executable"
    );
    for number in 0..count {
        let at = number
            .checked_mul(size)
            .and_then(|offset| offset.checked_add(start))
            .context("its program headers lie outside of it")?;
        ensure!(
            u32::from_le_bytes(field(bytes, at)?) != PT_INTERP,
            "it asks for a dynamic linker, so it is not static"
        );
    }
    Ok(architecture)
}

/// `N` bytes at `at`.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N).context("it ends too early")?;
    let field = bytes.get(at..end).context("it ends too early")?;
    Ok(field.try_into()?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The headers of an executable for `machine` with one program header of type `header`.
    pub(in crate::images) fn executable(machine: u16, header: u32) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(64 + PROGRAM_HEADER, 0);
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
        bytes[64..68].copy_from_slice(&header.to_le_bytes());
        bytes
    }

    #[test]
    fn a_static_executable_says_what_it_runs_on() {
        let architecture = |machine| static_executable(&executable(machine, 1)).unwrap();
        assert_eq!(architecture(62), Architecture::Amd64);
        assert_eq!(architecture(183), Architecture::Arm64);
    }

    #[test]
    fn what_could_not_run_in_an_empty_image_is_refused() {
        let refused = |bytes: &[u8]| static_executable(bytes).unwrap_err().to_string();
        assert!(refused(&executable(62, PT_INTERP)).contains("not static"));
        assert!(refused(&executable(3, 1)).contains("not known"));
        assert!(refused(b"#!/bin/sh\n").contains("not a 64-bit"));
        assert!(refused(&executable(62, 1)[..60]).contains("too early"));
        let mut far = executable(62, 1);
        far[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(refused(&far).contains("outside") || refused(&far).contains("too early"));
    }

    #[test]
    fn this_very_program_is_dynamic_as_programs_of_a_machine_are() {
        // What the host's own toolchain links by default, so the check meets a real linker's work.
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let is_static = cfg!(target_feature = "crt-static");
        assert_eq!(static_executable(&bytes).is_ok(), is_static);
    }
}
