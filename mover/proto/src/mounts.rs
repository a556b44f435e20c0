//! What is mounted where, as `/proc/self/mountinfo` tells it, and which directories a mount shows
//! that lie elsewhere.
//!
//! Both programs must know when two paths lead to one tree; each reads the file itself.

use crate::name::escape;

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    /// Its number, which `statx` tells of everything that is reached through it.
    pub id: u64,
    /// The number of the mount that its mount point lies in.
    pub parent: u64,
    /// The device of its file system.
    pub device: (u32, u32),
    /// Which directory of the file system is mounted.
    pub root: Vec<u8>,
    /// Where.
    pub point: Vec<u8>,
    /// The type of the file system.
    pub kind: Vec<u8>,
    /// What was mounted: a device, an export, a directory, or any word.
    pub source: Vec<u8>,
    /// The file system's options, still escaped: what is escaped separates nothing.
    options: Vec<u8>,
}

/// What a directory is for the mount that shows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// What is written to the mount is written there.
    Upper,
    /// It is read only.
    Lower,
    /// The file system's own workshop.
    Work,
    /// It is what the mount shows, name by name; beside what is shown of it anybody may write.
    Mirror,
}

impl Role {
    /// What overlays call it, or a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Upper => "upperdir",
            Self::Lower => "lowerdir",
            Self::Work => "workdir",
            Self::Mirror => "directory",
        }
    }
}

/// A directory that a mount shows under its own mount point.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layer {
    /// What for.
    pub role: Role,
    /// Its path, as whoever mounted it wrote it: the first of these that leads to a directory. It
    /// may be relative to a directory that nobody knows any more.
    pub paths: Vec<Vec<u8>>,
}

/// Every mount in the text of `/proc/self/mountinfo`; a line that is none is passed over.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n')
        .filter_map(mount)
        .collect()
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let device = (device.0.parse().ok()?, device.1.parse().ok()?);
    let root = unescape_octal(fields.next()?);
    let point = unescape_octal(fields.next()?);
    // Optional fields, as many as there are, and a dash.
    fields.by_ref().find(|field| *field == b"-")?;
    Some(Mount {
        id,
        parent,
        device,
        root,
        point,
        kind: unescape_octal(fields.next()?),
        source: unescape_octal(fields.next()?),
        options: fields.next().unwrap_or_default().to_vec(),
    })
}

impl Mount {
    /// The directories that lie elsewhere and are shown here.
    pub fn layers(&self) -> Vec<Layer> {
        match self.kind.as_slice() {
            b"overlay" => self.overlay(),
            // What file systems in user space, and the two stacking ones, name as their source is
            // the directory that they show, if it is one. Those that encrypt have other names there.
            b"ecryptfs" | b"fuse.gocryptfs" | b"fuse.encfs" | b"fuse.cryfs" | b"fuse.securefs" => {
                self.shown(Role::Upper)
            }
            b"fuse" | b"shiftfs" => self.shown(Role::Mirror),
            kind if kind.starts_with(b"fuse.") => self.shown(Role::Mirror),
            _ => Vec::new(),
        }
    }

    fn shown(&self, role: Role) -> Vec<Layer> {
        if !self.source.starts_with(b"/") {
            return Vec::new();
        }
        let several = self.source.split(|byte| *byte == b':');
        let mut paths = vec![self.source.clone()];
        paths.extend(several.map(<[u8]>::to_vec));
        paths.dedup();
        let layer = |path| Layer {
            role,
            paths: vec![path],
        };
        paths.into_iter().map(layer).collect()
    }

    fn overlay(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        for option in self.options.split(|byte| *byte == b',') {
            let Some(at) = option.iter().position(|byte| *byte == b'=') else {
                continue;
            };
            let (name, value) = option.split_at(at);
            let value = unescape_octal(value.get(1..).unwrap_or_default());
            let one = |role| Layer {
                role,
                paths: spellings(&value),
            };
            match name {
                b"upperdir" => layers.push(one(Role::Upper)),
                b"workdir" => layers.push(one(Role::Work)),
                b"lowerdir+" | b"datadir+" => layers.push(one(Role::Lower)),
                b"lowerdir" => layers.extend(several(&value).into_iter().map(|path| Layer {
                    role: Role::Lower,
                    paths: spellings(&path),
                })),
                _ => {}
            }
        }
        layers
    }

    /// What it is, for people.
    pub fn shown_as(&self) -> String {
        format!(
            "{} {} mounted on {}",
            escape(&self.kind),
            escape(&self.source),
            escape(&self.point)
        )
    }
}

/// The paths in a list with colons between them; one that belongs to a path has a backslash.
fn several(list: &[u8]) -> Vec<Vec<u8>> {
    let mut paths = vec![Vec::new()];
    let mut bytes = list.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b':' {
            paths.push(Vec::new());
        } else if let Some(path) = paths.last_mut() {
            path.push(*byte);
            if *byte == b'\\' {
                path.extend(bytes.next());
            }
        }
    }
    // Two colons introduce a layer of another kind.
    paths.retain(|path| !path.is_empty());
    paths
}

/// Kernels differ in whether they tell a path as it was given, with backslashes, or as it is.
fn spellings(path: &[u8]) -> Vec<Vec<u8>> {
    let mut plain = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => *bytes.next().unwrap_or(byte),
            _ => *byte,
        });
    }
    let mut paths = vec![path.to_vec(), plain];
    paths.dedup();
    paths
}

/// Blanks, backslashes and what separates options are written as three octal digits.
fn unescape_octal(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = rest
            .get(1..4)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(code) = code {
            plain.push(code);
            rest = rest.get(4..).unwrap_or_default();
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(line: &str) -> Mount {
        let mut mounts = parse(line.as_bytes());
        assert_eq!(mounts.len(), 1, "{line}");
        mounts.pop().unwrap()
    }

    fn layers(line: &str) -> Vec<(Role, Vec<String>)> {
        let text = |path: Vec<u8>| String::from_utf8(path).unwrap();
        only(line)
            .layers()
            .into_iter()
            .map(|layer| (layer.role, layer.paths.into_iter().map(text).collect()))
            .collect()
    }

    #[test]
    fn lines_are_taken_apart_and_unescaped() {
        let text = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            no mount\n\
            45 22 0:37 /@sub /mnt/my\\040data rw shared:2 master:1 - btrfs /dev/\\134b rw,subvol=/@sub";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        let last = mounts.last().unwrap();
        assert_eq!((last.id, last.parent, last.device), (45, 22, (0, 37)));
        assert_eq!(last.root, b"/@sub");
        assert_eq!(last.point, b"/mnt/my data");
        assert_eq!(last.kind, b"btrfs");
        assert_eq!(last.source, b"/dev/\\b");
        assert!(last.layers().is_empty());
        // Without the last field, as some file systems have no options.
        assert_eq!(only("1 1 0:1 / / rw - tmpfs none").source, b"none");
    }

    #[test]
    fn layers_of_an_overlay_are_found_whatever_is_in_their_names() {
        let line = "46 27 0:40 / /m rw - overlay overlay rw,\
            lowerdir=/lo\\134:w\\134\\054er:/l\\0402::/data,upperdir=/u\\054p,workdir=/w:k,uuid=on";
        let paths = |paths: &[&str]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            layers(line),
            [
                (Role::Lower, paths(&["/lo\\:w\\,er", "/lo:w,er"])),
                (Role::Lower, paths(&["/l 2"])),
                (Role::Lower, paths(&["/data"])),
                (Role::Upper, paths(&["/u,p"])),
                (Role::Work, paths(&["/w:k"])),
            ]
        );
        let line = "46 27 0:40 / /m ro - overlay o ro,lowerdir+=/a:b,lowerdir+=c,datadir+=/d";
        assert_eq!(
            layers(line),
            [
                (Role::Lower, paths(&["/a:b"])),
                (Role::Lower, paths(&["c"])),
                (Role::Lower, paths(&["/d"])),
            ]
        );
    }

    #[test]
    fn a_file_system_in_user_space_shows_the_directory_that_it_names() {
        let shown = |source: &str, kind: &str| {
            let line = format!("46 27 0:40 / /m rw - {kind} {source} rw,user_id=0");
            let layers = layers(&line);
            layers
                .into_iter()
                .flat_map(|(_, paths)| paths)
                .collect::<Vec<_>>()
        };
        assert_eq!(shown("/data", "fuse"), ["/data"]);
        assert_eq!(shown("/a:/b", "fuse.mergerfs"), ["/a:/b", "/a", "/b"]);
        assert_eq!(shown("/lower", "ecryptfs"), ["/lower"]);
        assert!(shown("host:/data", "fuse.sshfs").is_empty());
        assert!(shown("/dev/sda1", "fuseblk").is_empty());
        assert!(shown("/data", "tmpfs").is_empty());
    }
}
