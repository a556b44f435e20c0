//! What travels in the air-gap bundle beside the images: how to load them, and the manifests.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};

use super::{archive::Entry, image::Image};

/// Where the bundle's README puts the images.
const IMAGES: &str = "@IMAGES@";

/// The files for a bundle of `images` from the workspace at `root`.
pub(super) fn files(root: &Path, images: &[&Image]) -> Result<Vec<Entry>> {
    let read = |path: &str| fs::read(root.join(path)).with_context(|| format!("reading {path}"));
    let readme = String::from_utf8(read("images/bundle/README.md")?)?;
    let lines: Vec<String> = images
        .iter()
        .map(|image| format!("{}  {}", image.reference, image.digest()))
        .collect();
    let mut files = vec![
        Entry::file("README.md", readme.replace(IMAGES, &lines.join("\n"))),
        Entry::file("LICENSE", read("LICENSE")?),
    ];
    files.extend(manifests(&root.join("deploy"))?);
    Ok(files)
}

/// Every manifest below `folder`, and the scripts that they name, in order of their paths.
fn manifests(folder: &Path) -> Result<Vec<Entry>> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![(folder.to_owned(), "deploy".to_owned())];
    while let Some((folder, name)) = ahead.pop() {
        let listing = fs::read_dir(&folder);
        for entry in listing.with_context(|| format!("listing {}", folder.display()))? {
            let entry = entry?;
            let path = entry.path();
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                ahead.push((path, name));
            } else if path
                .extension()
                .is_some_and(|end| end == "yaml" || end == "sh")
            {
                let bytes = fs::read(&path);
                found.insert(name, bytes.context("reading a manifest")?);
            }
        }
    }
    let files = found.into_iter();
    Ok(files
        .map(|(path, bytes)| Entry::file(path, bytes))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::{super::image::tests::program, *};

    #[test]
    fn the_manifests_and_the_way_to_load_go_along() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("LICENSE", "the licence");
        write("images/bundle/README.md", "load\n@IMAGES@\nthus\n");
        write("deploy/z.yaml", "z");
        write("deploy/inner/a.yaml", "a");
        write("deploy/inner/b.sh", "b");
        write("deploy/README.md", "not a manifest");
        let image = Image::of(&program("p")).unwrap();
        let files = files(root.path(), &[&image]).unwrap();
        let readme = format!("load\nregistry.example/p:1.2.3  {}\nthus\n", image.digest());
        let expected = [
            Entry::file("README.md", readme),
            Entry::file("LICENSE", "the licence"),
            Entry::file("deploy/inner/a.yaml", "a"),
            Entry::file("deploy/inner/b.sh", "b"),
            Entry::file("deploy/z.yaml", "z"),
        ];
        assert_eq!(files, expected);
    }
}
