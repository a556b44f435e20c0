//! The images that tests use, made without a registry: OCI archives of one layer, written with
//! the machine's tar.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use ring::digest::{Context, SHA256};
use serde_json::{Value, json};

use super::{
    cache::{Cache, hex},
    node::PAUSE_IMAGE,
    process::{output, run},
    programs::Programs,
};

/// Debian's static busybox with all its names.
const BUSYBOX_IMAGE: &str = "livmig.io/test/busybox:1";
const BUSYBOX: &str = "/bin/busybox";

/// A Debian with git, rsync and bash.
pub(super) const GIT_IMAGE: &str = "livmig.io/test/git:1";
const GIT_PACKAGES: &str = "git,procps,rsync";

/// Counts up when the way in which images are made changes.
const FORMAT: &[u8] = b"1";

/// The archives of all images, made when they are not in the cache.
pub(super) fn build(cache: &Cache, programs: &Programs) -> Result<Vec<PathBuf>> {
    let pause = programs.path("pause")?;
    let busybox = fs::read(BUSYBOX).context("busybox-static is not installed")?;
    let parts = |content: Vec<u8>| vec![FORMAT.to_vec(), content];
    Ok(vec![
        cache.get("pause.tar", &parts(fs::read(pause)?), |to| {
            let folder = root(to)?;
            fs::copy(pause, folder.join("pause"))?;
            archive(PAUSE_IMAGE, &["/pause"], &layer(&folder, to)?, to)
        })?,
        cache.get("busybox.tar", &parts(busybox), |to| {
            let folder = root(to)?;
            busybox_root(&folder)?;
            archive(BUSYBOX_IMAGE, &["/bin/sh"], &layer(&folder, to)?, to)
        })?,
        cache.get("git.tar", &parts(GIT_PACKAGES.into()), |to| {
            let layer = beside(to, "layer.tar");
            debian_root(&layer)?;
            archive(GIT_IMAGE, &["/bin/bash"], &layer, to)
        })?,
    ])
}

/// busybox under all of its names, and the folders that programs expect.
fn busybox_root(folder: &Path) -> Result<()> {
    for name in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"] {
        fs::create_dir_all(folder.join(name))?;
    }
    fs::copy(BUSYBOX, folder.join("bin/busybox"))?;
    for name in run(BUSYBOX, ["--list"])?.lines() {
        if name != "busybox" {
            symlink("busybox", folder.join("bin").join(name))?;
        }
    }
    fs::write(folder.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    fs::write(folder.join("etc/group"), "root:x:0:\n")?;
    run("chmod", ["1777".as_ref(), folder.join("tmp").as_os_str()])?;
    Ok(())
}

/// A small Debian from where this machine gets its packages, as a layer.
fn debian_root(layer: &Path) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release")?;
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("This is no Debian: /etc/os-release has no VERSION_CODENAME")?;
    let sources = [
        "/etc/apt/sources.list.d/debian.sources",
        "/etc/apt/sources.list",
    ]
    .into_iter()
    .find(|file| Path::new(file).exists())
    .context("This machine's apt has no sources")?;
    output(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=essential"])
            .arg(format!("--include={GIT_PACKAGES}"))
            .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
            .arg("--dpkgopt=path-exclude=/usr/share/man/*")
            .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
            .arg(suite)
            .arg(layer)
            .arg(sources),
    )?;
    Ok(())
}

fn beside(to: &Path, name: &str) -> PathBuf {
    to.with_file_name(name)
}

fn root(to: &Path) -> Result<PathBuf> {
    let folder = beside(to, "root");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The files below `folder` as a layer that is the same each time.
fn layer(folder: &Path, to: &Path) -> Result<PathBuf> {
    let layer = beside(to, "layer.tar");
    pack(folder, &layer)?;
    Ok(layer)
}

fn pack(folder: &Path, to: &Path) -> Result<()> {
    output(
        Command::new("tar")
            .args(["--create", "--sort=name", "--mtime=@0", "--numeric-owner"])
            .args(["--owner=0", "--group=0", "--file"])
            .arg(to)
            .arg("--directory")
            .arg(folder)
            .arg("."),
    )?;
    Ok(())
}

/// Writes the OCI archive `to` of the image `name` with one `layer` and the command `entry`.
fn archive(name: &str, entry: &[&str], layer: &Path, to: &Path) -> Result<()> {
    let folder = beside(to, "oci");
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer_digest = digest(layer)?;
    let layer_size = fs::metadata(layer)?.len();
    fs::rename(layer, blobs.join(&layer_digest))?;

    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Cmd": entry,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    });
    let config = blob(&blobs, "application/vnd.oci.image.config.v1+json", &config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{layer_digest}"),
            "size": layer_size,
        }],
    });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let mut manifest = blob(&blobs, kind, &manifest)?;
    if let Some(fields) = manifest.as_object_mut() {
        let named = json!({"io.containerd.image.name": name});
        fields.insert("annotations".to_owned(), named);
    }
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(folder.join("index.json"), index.to_string())?;
    fs::write(
        folder.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    pack(&folder, to)
}

/// Writes `content` as a blob; what refers to it.
fn blob(blobs: &Path, kind: &str, content: &Value) -> Result<Value> {
    let text = content.to_string();
    let digest = hex(ring::digest::digest(&SHA256, text.as_bytes()).as_ref());
    fs::write(blobs.join(&digest), &text)?;
    Ok(json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": text.len()}))
}

fn digest(file: &Path) -> Result<String> {
    let mut context = Context::new(&SHA256);
    let mut file = File::open(file)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else {
            break;
        };
        context.update(read);
    }
    Ok(hex(context.finish().as_ref()))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}
