//! Mounts, subvolumes, overlays and lost+found below the root.
