//! One image: a static program in an empty root, as the OCI image format has it.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use super::{
    archive::{Content, Entry, archive},
    digest::sha256,
    elf::{Architecture, static_executable},
};

/// Media types of what an image consists of.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Who runs the program when nobody says otherwise: no user of any machine.
const USER: &str = "65532:65532";

/// What goes into an image.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Its name, which is also its path in the image.
    pub(crate) name: String,
    /// The image's name and tag.
    pub(crate) reference: String,
    /// What it is, for people.
    pub(crate) purpose: String,
    /// Its version.
    pub(crate) version: String,
    /// The executable.
    pub(crate) executable: Vec<u8>,
    /// The project's licence.
    pub(crate) licence: Vec<u8>,
    /// The licences of all that was linked into it.
    pub(crate) notices: Vec<u8>,
}

/// Bytes that are found by their digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Blob {
    /// SHA-256, hexadecimal.
    pub(super) digest: String,
    /// The bytes.
    pub(super) bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            digest: sha256(&bytes),
            bytes,
        }
    }

    /// Where it lies in an image layout.
    pub(super) fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({
            "mediaType": media_type,
            "digest": format!("sha256:{}", self.digest),
            "size": self.bytes.len(),
        })
    }
}

/// An image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Image {
    /// Its name and tag.
    pub(super) reference: String,
    /// What it runs on.
    pub(super) architecture: Architecture,
    /// What it consists of, whose digest is the image's.
    pub(super) manifest: Blob,
    /// How it runs.
    pub(super) config: Blob,
    /// Its files.
    pub(super) layer: Blob,
}

impl Image {
    /// The image of `program`, which must be static.
    pub(super) fn of(program: &Program) -> Result<Self> {
        let architecture = static_executable(&program.executable)
            .with_context(|| format!("{} cannot be put into an empty image", program.name))?;
        let files = archive(&files(program))?;
        let unpacked = sha256(&files);
        let layer = Blob::new(compressed(&files)?);
        let config = Blob::new(serde_json::to_vec(&config(
            program,
            architecture,
            &unpacked,
        ))?);
        let manifest = Blob::new(serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": [layer.descriptor(LAYER)],
        }))?);
        Ok(Self {
            reference: program.reference.clone(),
            architecture,
            manifest,
            config,
            layer,
        })
    }

    /// The digest it is pulled by.
    pub(super) fn digest(&self) -> String {
        format!("sha256:{}", self.manifest.digest)
    }

    /// What an index says of it.
    pub(super) fn descriptor(&self) -> Value {
        let mut descriptor = self.manifest.descriptor(MANIFEST);
        if let Some(fields) = descriptor.as_object_mut() {
            let platform = json!({"os": "linux", "architecture": self.architecture.name()});
            fields.insert("platform".to_owned(), platform);
            let annotations = json!({
                // The first is containerd's, the second everybody's.
                "io.containerd.image.name": self.reference,
                "org.opencontainers.image.ref.name": self.reference,
            });
            fields.insert("annotations".to_owned(), annotations);
        }
        descriptor
    }
}

/// `files` compressed, without a time or a name: equal files make equal bytes.
fn compressed(files: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(files)?;
    Ok(encoder.finish()?)
}

/// What [`compressed`] was made of.
#[cfg(test)]
pub(super) fn unpacked(layer: &[u8]) -> Vec<u8> {
    use std::io::Read as _;

    let mut files = Vec::new();
    flate2::read::GzDecoder::new(layer)
        .read_to_end(&mut files)
        .unwrap();
    files
}

/// All that the image's root holds.
fn files(program: &Program) -> [Entry; 4] {
    [
        Entry {
            path: "licenses/".to_owned(),
            content: Content::Directory,
        },
        Entry::file("licenses/LICENSE", program.licence.clone()),
        Entry::file("licenses/THIRD-PARTY", program.notices.clone()),
        Entry {
            path: program.name.clone(),
            content: Content::Program(program.executable.clone()),
        },
    ]
}

fn config(program: &Program, architecture: Architecture, unpacked: &str) -> Value {
    json!({
        // A time that is everybody's, so that equal content makes equal images.
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture.name(),
        "os": "linux",
        "config": {
            "User": USER,
            "Entrypoint": [format!("/{}", program.name)],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": program.name,
                "org.opencontainers.image.description": program.purpose,
                "org.opencontainers.image.version": program.version,
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{unpacked}")]},
        "history": [{
            "created": "1970-01-01T00:00:00Z",
            "created_by": "cargo xtask images",
        }],
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::{archive::tests::entries, elf::tests::executable},
        *,
    };

    /// A program that is nothing but static.
    pub(in crate::images) fn program(name: &str) -> Program {
        Program {
            name: name.to_owned(),
            reference: format!("registry.example/{name}:1.2.3"),
            purpose: "does nothing".to_owned(),
            version: "1.2.3".to_owned(),
            executable: executable(62, 1),
            licence: b"do what you like".to_vec(),
            notices: b"nothing else".to_vec(),
        }
    }

    fn document(blob: &Blob) -> Value {
        serde_json::from_slice(&blob.bytes).unwrap()
    }

    #[test]
    fn the_root_holds_the_program_and_the_licences_alone() {
        let image = Image::of(&program("p")).unwrap();
        let held: Vec<(String, bool)> = entries(&unpacked(&image.layer.bytes))
            .into_iter()
            .map(|entry| (entry.path, matches!(entry.content, Content::Program(_))))
            .collect();
        let expected = [
            ("licenses/", false),
            ("licenses/LICENSE", false),
            ("licenses/THIRD-PARTY", false),
            ("p", true),
        ];
        assert_eq!(held, expected.map(|(path, runs)| (path.to_owned(), runs)));
    }

    #[test]
    fn it_runs_the_program_as_nobody() {
        let config = document(&Image::of(&program("p")).unwrap().config);
        assert_eq!(config["config"]["Entrypoint"], json!(["/p"]));
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!([&config["os"], &config["architecture"]], ["linux", "amd64"]);
        let labels = &config["config"]["Labels"];
        assert_eq!(labels["org.opencontainers.image.version"], "1.2.3");
    }

    #[test]
    fn every_part_is_named_by_its_digest_and_size() {
        let image = Image::of(&program("p")).unwrap();
        let manifest = document(&image.manifest);
        for (named, blob) in [
            (&manifest["config"], &image.config),
            (&manifest["layers"][0], &image.layer),
            (&image.descriptor(), &image.manifest),
        ] {
            assert_eq!(named["digest"], format!("sha256:{}", sha256(&blob.bytes)));
            assert_eq!(named["size"], blob.bytes.len());
        }
        let layers = &document(&image.config)["rootfs"]["diff_ids"];
        let files = sha256(&unpacked(&image.layer.bytes));
        assert_eq!(*layers, json!([format!("sha256:{files}")]));
        assert_eq!(image.digest(), image.descriptor()["digest"]);
    }

    #[test]
    fn a_dynamic_program_gets_no_image() {
        let mut dynamic = program("p");
        dynamic.executable = executable(62, 3);
        let error = format!("{:#}", Image::of(&dynamic).unwrap_err());
        assert!(error.contains("p cannot be put") && error.contains("not static"));
    }
}
