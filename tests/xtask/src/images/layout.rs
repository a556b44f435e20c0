//! What tools load: image layouts in one archive, and the air-gap bundle.
//!
//! The bundle is an OCI image layout, which `ctr` reads, that also holds the `manifest.json` of
//! docker's own archives, which points at the same blobs. Both kinds of reader pass over the files
//! that no index names, so the manifests, the checksums and a README travel along.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    archive::{Entry, archive},
    digest::sums,
    image::Image,
};

/// The archive of one image, an OCI image layout.
pub(super) fn image_archive(image: &Image) -> Result<Vec<u8>> {
    archive(&layout(&[image])?)
}

/// The archive of all `images` and of the files that travel along.
pub(super) fn bundle(images: &[&Image], along: Vec<Entry>) -> Result<Vec<u8>> {
    let mut files = layout(images)?;
    let docker: Value = images
        .iter()
        .map(|image| {
            json!({
                "Config": image.config.path(),
                "RepoTags": [image.reference],
                "Layers": [image.layer.path()],
            })
        })
        .collect();
    files.push(Entry::file("manifest.json", serde_json::to_vec(&docker)?));
    files.extend(along);
    let sums = sums(&files);
    files.push(Entry::file("SHA256SUMS", sums));
    archive(&files)
}

/// An OCI image layout of `images`.
fn layout(images: &[&Image]) -> Result<Vec<Entry>> {
    let version = json!({"imageLayoutVersion": "1.0.0"});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": images.iter().map(|image| image.descriptor()).collect::<Vec<_>>(),
    });
    let mut files = vec![
        Entry::file("oci-layout", serde_json::to_vec(&version)?),
        Entry::file("index.json", serde_json::to_vec(&index)?),
    ];
    // Two images may share a blob; it is there once.
    let blobs: BTreeMap<String, &Vec<u8>> = images
        .iter()
        .flat_map(|image| [&image.manifest, &image.config, &image.layer])
        .map(|blob| (blob.path(), &blob.bytes))
        .collect();
    files.extend(
        blobs
            .into_iter()
            .map(|(path, bytes)| Entry::file(path, bytes.clone())),
    );
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            archive::tests::entries,
            digest::sha256,
            image::{tests::program, unpacked},
        },
        *,
    };

    fn bundled() -> BTreeMap<String, Vec<u8>> {
        let images = ["a", "b"].map(|name| Image::of(&program(name)).unwrap());
        let along = vec![
            Entry::file("README.md", "how"),
            Entry::file("deploy/x.yaml", ""),
        ];
        let bytes = bundle(&[&images[0], &images[1]], along).unwrap();
        let files = entries(&bytes).into_iter();
        files
            .map(|file| (file.path.clone(), file.bytes().to_vec()))
            .collect()
    }

    fn document(files: &BTreeMap<String, Vec<u8>>, path: &str) -> Value {
        serde_json::from_slice(&files[path]).unwrap()
    }

    #[test]
    fn what_the_index_names_is_there_all_the_way_down() {
        let files = bundled();
        assert_eq!(
            document(&files, "oci-layout")["imageLayoutVersion"],
            "1.0.0"
        );
        let manifests = document(&files, "index.json")["manifests"].clone();
        assert_eq!(manifests.as_array().unwrap().len(), 2);
        let blob = |named: &Value| {
            let digest = named["digest"].as_str().unwrap().replace(':', "/");
            let bytes = files[&format!("blobs/{digest}")].clone();
            assert_eq!(named["size"], bytes.len());
            assert_eq!(named["digest"], format!("sha256:{}", sha256(&bytes)));
            bytes
        };
        for (named, name) in manifests.as_array().unwrap().iter().zip(["a", "b"]) {
            let reference = format!("registry.example/{name}:1.2.3");
            assert_eq!(named["annotations"]["io.containerd.image.name"], reference);
            let manifest: Value = serde_json::from_slice(&blob(named)).unwrap();
            blob(&manifest["config"]);
            blob(&manifest["layers"][0]);
        }
    }

    #[test]
    fn docker_finds_the_same_blobs() {
        let files = bundled();
        let images = document(&files, "manifest.json");
        assert_eq!(images.as_array().unwrap().len(), 2);
        for (image, name) in images.as_array().unwrap().iter().zip(["a", "b"]) {
            let reference = format!("registry.example/{name}:1.2.3");
            assert_eq!(image["RepoTags"], json!([reference]));
            let config = document(&files, image["Config"].as_str().unwrap());
            let layer = &files[image["Layers"][0].as_str().unwrap()];
            let digest = format!("sha256:{}", sha256(&unpacked(layer)));
            assert_eq!(config["rootfs"]["diff_ids"], json!([digest]));
        }
    }

    #[test]
    fn every_file_of_the_bundle_has_a_checksum() {
        let mut files = bundled();
        let sums = String::from_utf8(files.remove("SHA256SUMS").unwrap()).unwrap();
        let named: BTreeMap<String, String> = sums
            .lines()
            .filter_map(|line| line.split_once("  "))
            .map(|(sum, path)| (path.to_owned(), sum.to_owned()))
            .collect();
        let real = files
            .iter()
            .map(|(path, bytes)| (path.clone(), sha256(bytes)))
            .collect();
        assert_eq!(named, real);
        assert!(named.contains_key("README.md") && named.contains_key("deploy/x.yaml"));
    }

    #[test]
    fn equal_programs_make_equal_archives() {
        let once = || {
            let image = Image::of(&program("a")).unwrap();
            (
                image_archive(&image).unwrap(),
                bundle(&[&image], vec![]).unwrap(),
            )
        };
        assert_eq!(once(), once());
    }
}
