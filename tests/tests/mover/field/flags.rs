//! Inode flags, encryption, damaged inodes and owners that a mapping does not know.
