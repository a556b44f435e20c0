//! `cargo xtask images`: the container images and the air-gap bundle, without a container engine
//! and without a registry.

mod along;
mod archive;
mod digest;
mod elf;
mod image;
mod layout;
mod notices;
mod programs;
mod reproducible;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};

use self::{archive::Entry, image::Image};
use crate::{cargo::root, rules::workspace::target_directory};

/// What an image's archive may have at most, in bytes.
const SIZE_MAX: usize = 15_000_000;

/// Where the checksums of the archives lie, beside them.
const SUMS: &str = "SHA256SUMS";

/// The images, as built.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Images {
    /// One for each program.
    pub(crate) built: Vec<Built>,
    /// One archive of all of them that `ctr`, docker and podman load.
    pub(crate) bundle: PathBuf,
    /// The file with the checksums of all archives.
    pub(crate) sums: PathBuf,
}

/// One image, as built.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Built {
    /// Its name and tag.
    pub(crate) reference: String,
    /// The digest of its manifest, `sha256:…`.
    pub(crate) digest: String,
    /// An OCI image layout with this image alone.
    pub(crate) archive: PathBuf,
    /// The archive's size in bytes.
    pub(crate) size: usize,
}

/// Flags of `cargo xtask images`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Build once more in another folder, and fail unless every archive is the same
    #[arg(long)]
    check_reproducible: bool,
}

/// Builds the images and says where they are.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let root = root()?;
    let images = build(&root)?;
    for image in &images.built {
        println!("{}", image.reference);
        println!("  digest   {}", image.digest);
        println!("  archive  {}", image.archive.display());
        println!("  size     {} bytes", image.size);
    }
    println!("bundle     {}", images.bundle.display());
    println!("checksums  {}", images.sums.display());
    if options.check_reproducible {
        reproducible::check(&root, &images)?;
        println!("built again in another folder: the same digests");
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the programs of the workspace at `root`, and from them every archive below `images` in
/// its target directory.
pub(crate) fn build(root: &Path) -> Result<Images> {
    build_into(root, &target_directory(root)?.join("images"))
}

/// Builds every archive into `folder`. What an earlier build left there is removed first, so a
/// failed one leaves nothing that could be taken for its result.
fn build_into(root: &Path, folder: &Path) -> Result<Images> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    remove_archives(folder)?;
    let programs = programs::build(root, &folder.join("build"))?;
    let images: Vec<Image> = programs.iter().map(Image::of).collect::<Result<_>>()?;
    let all: Vec<&Image> = images.iter().collect();
    let first = all.first().context("there are no images")?;
    let version = programs.first().map_or("", |program| &program.version);

    let mut files = Vec::new();
    for (program, image) in programs.iter().zip(&images) {
        let name = format!("{}.oci.tar", program.name);
        files.push(Entry::file(name, layout::image_archive(image)?));
    }
    let built = files
        .iter()
        .zip(&images)
        .map(|(file, image)| built(folder, file, image))
        .collect::<Result<_>>()?;
    let bundle = format!("livmig-airgap-{version}-{}.tar", first.architecture.name());
    let along = along::files(root, &all)?;
    files.push(Entry::file(&bundle, layout::bundle(&all, along)?));
    files.push(Entry::file(SUMS, digest::sums(&files)));
    for file in &files {
        let path = folder.join(&file.path);
        fs::write(&path, file.bytes()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(Images {
        built,
        bundle: folder.join(bundle),
        sums: folder.join(SUMS),
    })
}

/// What there is to say of `image`, whose archive `file` is. One that is too large is an error.
fn built(folder: &Path, file: &Entry, image: &Image) -> Result<Built> {
    let size = file.bytes().len();
    ensure!(
        size <= SIZE_MAX,
        "{} has {size} bytes, and an image may have {SIZE_MAX}: find out what made it grow with \
         `cargo tree`, or argue for another limit",
        file.path
    );
    Ok(Built {
        reference: image.reference.clone(),
        digest: image.digest(),
        archive: folder.join(&file.path),
        size,
    })
}

/// Removes the archives in `folder`, and their checksums.
fn remove_archives(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "tar") || path.ends_with(SUMS) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_too_large_is_refused() {
        let image = Image::of(&image::tests::program("p")).unwrap();
        let of_size = |size| {
            let file = Entry::file("p.oci.tar", vec![0; size]);
            built(Path::new("/images"), &file, &image)
        };
        assert_eq!(of_size(SIZE_MAX).unwrap().size, SIZE_MAX);
        let error = of_size(SIZE_MAX + 1).unwrap_err().to_string();
        assert!(error.contains("p.oci.tar has 15000001 bytes"), "{error}");
    }

    #[test]
    fn archives_of_an_earlier_build_do_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("build")).unwrap();
        for name in ["old.oci.tar", SUMS] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_archives(folder.path()).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
    }
}
